"""The timeline: a lane for each stream, all with the same columns: what stands above each other is one moment."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from recorder.bundle.manifest import Manifest
from recorder.bundle.track import TrackTable
from replay.report.content import Shown
from replay.report.plots import Plot, plot
from replay.show.text import inert

__all__ = ["Lane", "Timeline", "columns_of", "timeline"]

#: Signals of the track that stand under the frames, where there are such.
_SIGNALS = ("luminance", "contrast", "sharpness_x", "difference", "detections")

#: Columns from one time to the next, counted from the trigger's: a column is 52 pixels wide or wider.
_TIME_EVERY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One stream's frames, in their columns."""

    stream: str
    cells: tuple[Shown | None, ...]  #: as many as the timeline has columns
    plots: tuple[Plot, ...]
    is_alarm: bool  #: the incident is this stream's

    @property
    def frames(self) -> tuple[Shown, ...]:
        """Those that are there."""
        return tuple(each for each in self.cells if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All lanes, that of the incident's stream first."""

    lanes: tuple[Lane, ...]
    times: tuple[str, ...]  #: of the columns, from the trigger on; empty between


def timeline(manifest: Manifest, tables: Sequence[TrackTable], shown: Sequence[Shown]) -> Timeline:
    """Return the lanes of the frames shown."""
    streams: dict[str, list[Shown]] = {}
    for each in shown:
        streams.setdefault(each.frame.stream, []).append(each)
    columns = columns_of(shown)
    total = max(columns.values(), default=-1) + 1
    order = sorted(streams, key=lambda stream: (stream != manifest.incident.stream, stream))
    first = manifest.incident.triggers[0].frame if manifest.incident.triggers else None
    zero = columns.get(first, 0) if first is not None else 0
    offsets: dict[int, str] = {}
    for each in shown:
        if each.frame.id == first or columns[each.frame.id] not in offsets:
            offsets[columns[each.frame.id]] = each.offset
    return Timeline(
        lanes=tuple(_lane(manifest, tables, stream, streams[stream], columns, total) for stream in order),
        times=tuple(offsets[column] if (column - zero) % _TIME_EVERY == 0 else "" for column in range(total)),
    )


def columns_of(shown: Sequence[Shown]) -> dict[int, int]:
    """Return the column of each frame, by id.

    Frames of one stream have columns of their own, in their order. Frames of several streams share one when they are
    less than half a usual interval apart: cameras that run side by side stand above each other.
    """
    if len({each.frame.stream for each in shown}) < 2:
        return {each.frame.id: column for column, each in enumerate(shown)}
    ordered = sorted(shown, key=lambda each: (each.frame.time_ns, each.frame.id))
    times: dict[str, list[int]] = {}
    for each in ordered:
        times.setdefault(each.frame.stream, []).append(each.frame.time_ns)
    gaps = [late - early for own in times.values() for early, late in pairwise(own)]
    near_ns = statistics.median(gaps) / 2 if gaps else 0
    columns: dict[int, int] = {}
    column, begin_ns = -1, 0
    taken: set[str] = set()
    for each in ordered:
        if column < 0 or each.frame.stream in taken or each.frame.time_ns - begin_ns > near_ns:
            column, begin_ns = column + 1, each.frame.time_ns
            taken.clear()
        taken.add(each.frame.stream)
        columns[each.frame.id] = column
    return columns


def _lane(
    manifest: Manifest,
    tables: Sequence[TrackTable],
    stream: str,
    frames: Sequence[Shown],
    columns: Mapping[int, int],
    total: int,
) -> Lane:
    by_column = {columns[each.frame.id]: each for each in frames}
    cells = tuple(by_column.get(column) for column in range(total))
    ordered = [by_column[column] for column in sorted(by_column)]
    return Lane(
        stream=inert(stream, 60) or "(no stream)",
        cells=cells,
        plots=tuple(_signals(manifest, tables, ordered, [columns[each.frame.id] for each in ordered], total)),
        is_alarm=stream == manifest.incident.stream,
    )


def _signals(
    manifest: Manifest, tables: Sequence[TrackTable], shown: Sequence[Shown], places: Sequence[int], total: int
) -> list[Plot]:
    """Confidence and latency of each frame, then the track's signals."""
    ids = [each.frame.id for each in shown]
    first = manifest.incident.triggers[0] if manifest.incident.triggers else None
    confidence = first.threshold if first is not None and first.kind == "low_confidence" else None
    latency = first.threshold if first is not None and first.kind == "latency" else None

    def drawn(name: str, unit: str, numbers: list[float | None], threshold: float | None = None) -> Plot | None:
        return plot(name, unit, numbers, ids, _finite(threshold), places=places, columns=total)

    plots = [
        drawn("confidence", "", [each.drawing.confidence for each in shown], confidence),
        drawn("latency", "s", [each.frame.latency_seconds for each in shown], latency),
    ]
    units = {signal.name: signal.unit for signal in manifest.track.signals} if manifest.track is not None else {}
    rows = [table for table in tables if not table.level.seconds]
    for name in _SIGNALS:
        numbers: dict[int, float] = {}
        for table in rows:
            if name in table.columns:
                numbers.update(zip(map(int, table.columns["frame"]), map(float, table.columns[name]), strict=True))
        plots.append(drawn(name, inert(units.get(name, ""), 20), [numbers.get(each) for each in ids]))
    return [each for each in plots if each is not None]


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
