"""The findings as a page: one HTML file, nothing loaded, no script, every string of the bundle escaped."""

from __future__ import annotations

from recorder.bundle import Bundle
from replay.probe.finding import Curve, Finding
from replay.probe.probing import Probed
from replay.report.pictures import picture
from replay.show.static_page import render
from replay.show.story import headline
from replay.show.text import id_ranges, inert

__all__ = ["page"]

#: Of a picture: what a test says is seen at this size.
_SIDE, _PICTURE_BYTES = 224, 40_000

#: Units of a curve's drawing.
_WIDTH, _HEIGHT, _MARGIN = 320, 120, 8


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
            (finding, _pictures(finding), [_drawn(curve) for curve in finding.curves]) for finding in probed.findings
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


def _drawn(curve: Curve) -> dict[str, object]:
    """A curve as path data: decisions kept, and confidence where there is one."""
    low, high = (min(curve.at), max(curve.at)) if curve.at else (0.0, 1.0)
    span = (high - low) or 1.0

    def path(values: tuple[float | None, ...]) -> str:
        parts: list[str] = []
        for at, value in zip(curve.at, values, strict=True):
            if value is not None:
                x = _MARGIN + (at - low) / span * (_WIDTH - 2 * _MARGIN)
                y = _HEIGHT - _MARGIN - value * (_HEIGHT - 2 * _MARGIN)
                parts.append(f"{'L' if parts else 'M'}{x:.5g} {y:.5g}")
        return " ".join(parts)

    said = ", ".join(f"{kept:.0%} at {at:g}" for at, kept in zip(curve.at, curve.kept, strict=True))
    return {
        "name": curve.name,
        "unit": curve.unit,
        "low": f"{low:g}",
        "high": f"{high:g}",
        "kept": path(curve.kept),
        "confidence": path(curve.confidence),
        "said": said,
        "width": _WIDTH,
        "height": _HEIGHT,
    }
