"""The page: one HTML file with its style, its script and its pictures inside, and a policy that allows nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from recorder.bundle.custody import custody
from recorder.bundle.manifest import Manifest
from recorder.bundle.reader import Bundle
from replay.report import content, plots
from replay.report.affected import affected_slices
from replay.report.findings import found
from replay.report.lanes import timeline
from replay.show.cause import cause_details, cause_headline
from replay.show.provenance import signed_sentences
from replay.show.static_page import StaticPage
from replay.show.story import headline, tell
from replay.show.text import duration, inert, size, utc
from replay.trust import Signed

__all__ = ["page", "policy"]

#: Layers named in the tree of a divergence.
_LAYERS_SHOWN = 200

#: Of what changed; a hostile bundle has thousands, and the page has to stay below 8 MB.
_CHANGES_SHOWN = 40


def page(
    bundle: Bundle,
    *,
    location: str,
    signed: Signed,
    result: Mapping[str, Any] | None = None,
    result_problem: str = "",
    against: Manifest | None = None,
    count: Callable[[int, int], None] | None = None,
) -> str:
    """Return the page of an incident.

    Args:
        bundle: to tell of.
        location: as the user named it; the command on the page is made of its last part.
        signed: who signed it.
        result: of its replay, validated; None: not replayed yet.
        result_problem: why a saved result is not shown.
        against: manifest of a bundle that it is compared with.
        count: told how many of how many frames are done.

    Raises:
        BundleInvalid: a part that is read is not what the manifest says.
        BundleUnavailable: it could not be read.
    """
    manifest = bundle.manifest
    tables = bundle.track()
    shown = content.frames_shown(bundle, result, count)
    moment = content.moment(manifest, shown)
    answers = {each.frame.id: each.answer for each in shown}
    changes = content.what_changed(manifest, against)
    return _static().render(
        headline=headline(manifest, inert),
        name=inert(Path(location).name, 120),
        command=f"replay {shlex.quote(inert(Path(location).name, 200))}",
        bundle_id=bundle.id,
        bundle_size=size(bundle.size_bytes),
        manifest=manifest,
        trigger=manifest.incident.triggers[0] if manifest.incident.triggers else None,
        triggers=len(manifest.incident.triggers),
        result=result,
        replayed=bool(result and result["verdict"]),
        result_problem=result_problem,
        found=found(result),
        verdicts=_counts(result),
        layers=_layers(result),
        moment=moment,
        start=moment.first_bad or (shown[0] if shown else None),
        shown=shown,
        left_out=len(manifest.frames) - len(shown),
        cause=cause_headline(manifest.incident.cause, inert),
        cause_details=cause_details(manifest.incident.cause, inert),
        affected=affected_slices(manifest, tables),
        changes=changes[:_CHANGES_SHOWN],
        changes_left_out=max(0, len(changes) - _CHANGES_SHOWN),
        against=against is not None,
        timeline=timeline(manifest, tables, shown),
        history=content.history_plots(manifest, tables),
        column=plots.COLUMN,
        plot_height=plots.HEIGHT,
        sections=tell(manifest, answers, inert),
        signed=signed_sentences(signed),
        custody=len(custody(manifest)),
    )


def policy() -> str:
    """Pictures inside the page, its style and its script; no address, form, frame or other script."""
    return _static().policy


@cache
def _static() -> StaticPage:
    filters = {"duration": duration, "utc": utc, "plain": _plain}
    return StaticPage("replay.report", script=True, own_style=True, filters=filters)


def _plain(value: object) -> str:
    """A piece of evidence: numbers short, everything else as it is."""
    if isinstance(value, Mapping):
        return ", ".join(f"{inert(key, 40)} {_plain(item)}" for key, item in list(value.items())[:12])
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value[:12])
    return f"{value:.4g}" if isinstance(value, float) else inert(value, 300)


def _counts(result: Mapping[str, Any] | None) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for frame in (result or {}).get("frames", []):
        counts[frame["level"]] = counts.get(frame["level"], 0) + 1
    return sorted(counts.items())


def _layers(result: Mapping[str, Any] | None) -> list[tuple[int, str, str, str]]:
    """The layers in which frames part, as a tree: depth, name, class or operator, frames."""
    parting: dict[tuple[str, ...], tuple[str, list[int]]] = {}
    for frame in (result or {}).get("frames", []):
        layer = (frame["first_difference"] or {}).get("layer")
        if layer:
            key = tuple(layer["path"].split("."))
            parting.setdefault(key, (layer["operator"] or layer["kind"], []))[1].append(frame["id"])
    rows: list[tuple[int, str, str, str]] = []
    seen: set[tuple[str, ...]] = set()
    for key in sorted(parting)[:_LAYERS_SHOWN]:
        for depth in range(min(len(key), 12)):
            part = key[: depth + 1]
            if part in seen:
                continue
            seen.add(part)
            kind, frames = parting.get(part, ("", []))
            rows.append((depth, inert(part[-1], 60) or "the model", inert(kind, 60), _frames_said(frames)))
    return rows


def _frames_said(frames: Sequence[int]) -> str:
    from replay.show.text import id_ranges

    return f"frame{'' if len(frames) == 1 else 's'} {id_ranges(frames)}" if frames else ""
