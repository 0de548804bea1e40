"""The findings as a page: one HTML file, nothing loaded, no script, every string of the bundle escaped."""

from __future__ import annotations

from recorder.bundle import Bundle
from replay.probe.curves import drawn
from replay.probe.finding import Finding
from replay.probe.probing import Probed
from replay.report.pictures import picture
from replay.show.static_page import render
from replay.show.story import headline
from replay.show.text import id_ranges, inert

__all__ = ["page"]

#: Of a picture: what a test says is seen at this size.
_SIDE, _PICTURE_BYTES = 224, 40_000


def page(bundle: Bundle, probed: Probed, name: str) -> str:
    """Return the page.

    Args:
        bundle: that was probed.
        probed: what was found.
        name: of the bundle's file.
    """
    return render(
        "replay.probe",
        headline=headline(bundle.manifest, inert),
        name=inert(name, 120),
        bundle_id=bundle.id,
        probed=probed,
        frames=id_ranges(probed.frames),
        findings=[
            (finding, _pictures(finding), [drawn(curve) for curve in finding.curves]) for finding in probed.findings
        ],
    )


def _pictures(finding: Finding) -> list[tuple[str, str, int, int]]:
    """Caption, address, width and height of each."""
    shown = []
    for each in finding.pictures:
        drawn = picture(each.pixels, _PICTURE_BYTES, _SIDE)
        if drawn is not None:
            shown.append((each.caption, drawn.uri, drawn.width, drawn.height))
    return shown
