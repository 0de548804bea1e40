"""The history's signals, under names that say their unit."""

from __future__ import annotations

import math
from collections.abc import Iterator

from recorder.bundle.manifest import Trigger
from recorder.bundle.track import TrackTable
from replay.export.names import plain_name, with_unit
from replay.export.source import Source
from replay.show.history import series

__all__ = ["Series", "detector_of", "frame_signals", "named_signals", "signal_series"]

#: Stream, signal with unit, and ``(time_ns, number)``, oldest first.
Series = tuple[str, str, list[tuple[int, float]]]


def named_signals(source: Source) -> dict[str, str]:
    """Name with unit of each signal of the history, by its name; empty where the incident has no history."""
    track = source.bundle.manifest.track
    return {} if track is None else {each.name: with_unit(each.name, each.unit) for each in track.signals}


def frame_signals(source: Source) -> dict[int, dict[str, float]]:
    """The signals of each wanted frame that has its own row in the history; frames without one are counted."""
    names = named_signals(source)
    found: dict[int, dict[str, float]] = {}
    for table in source.bundle.track():
        if table.level.seconds:
            continue
        columns = [(names[name], table.columns[name]) for name in names if name in table.columns]
        for row, frame in enumerate(table.columns["frame"]):
            found[int(frame)] = {name: float(numbers[row]) for name, numbers in columns if math.isfinite(numbers[row])}
    wanted = {frame.id for frame in source.frames}
    source.exported.left_out["signals of a frame of which there is no history"] += len(wanted - found.keys())
    return {frame: signals for frame, signals in found.items() if frame in wanted}


def signal_series(source: Source) -> Iterator[Series]:
    """Every signal of every stream as far back as the history goes, each from the finest level that reaches there."""
    tables: dict[str, list[TrackTable]] = {}
    for table in source.bundle.track():
        tables.setdefault(table.level.stream, []).append(table)
    if not tables:
        source.exported.left_out["signals of an incident that has no history"] += 1
    for stream, own in tables.items():
        for name, named in named_signals(source).items():
            points = series(own, name, "time_ns")
            if points:
                yield plain_name(stream, ()) if stream else "frames", named, points


def detector_of(trigger: Trigger) -> str:
    """The detector that has raised an alarm of the drift kinds; of the others the kind."""
    named = trigger.parameters.get("detector")
    return named if isinstance(named, str) else trigger.kind
