"""The track of a bundle for people and for tools: a line of history per signal, the series, a table as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from recorder.bundle.manifest import Manifest
from recorder.bundle.track import PARTS, TrackTable
from replay.show.story import Section
from replay.show.text import Say, duration, iso

__all__ = ["csv_lines", "history_json", "history_section", "series", "spark"]

#: Signals shown as a line, where the track has them; --json and `extract` have all.
_SHOWN = ("luminance", "sharpness_x", "difference", "confidence", "latency")

#: Fits a line of 80 columns with its name before it and its range behind it.
_LINE_COLUMNS = 32

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_-~=+*%#"
#: Where there was no frame: a space would be taken for the end of the line.
_NO_BLOCK, _NO_ASCII = "·", "."

#: Streams shown; the JSON form has all of them.
_STREAMS_SHOWN = 4

#: A change smaller than this share of a signal's size would fill the line with noise.
_FLAT_SHARE = 0.02

#: What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_Points = list[tuple[int, float]]


def history_section(manifest: Manifest, tables: Sequence[TrackTable], say: Say, *, blocks: bool) -> Section | None:
    """Return the history as lines of 32 steps from the oldest to the newest frame; None when there is none.

    Args:
        manifest: of the bundle.
        tables: its track.
        say: makes a string of the bundle safe to show.
        blocks: whether block characters can be shown; else ASCII.
    """
    streams = list(dict.fromkeys(table.level.stream for table in tables))
    rows: list[tuple[str, ...]] = []
    reach = frames = 0
    for stream in streams[:_STREAMS_SHOWN]:
        own = [table for table in tables if table.level.stream == stream]
        begin, end = _span(own)
        reach = max(reach, end - begin)
        frames += _frames(own)
        known = {signal.name for signal in manifest.track.signals} if manifest.track is not None else set()
        lines = []
        for name in (signal for signal in _SHOWN if signal in known):
            points = series(own, name)
            if points:
                numbers = [number for _, number in points]
                drawn = spark(points, begin, end, blocks=blocks)
                lines.append((name, drawn, *(_number(each) for each in (min(numbers), max(numbers), numbers[-1]))))
        if lines and len(streams) > 1:
            rows.append((say(stream, 16) or "(none)", "", "", "", ""))
        rows += lines
    if not rows:
        return None
    sentences = [f"{duration(reach / 1e9)} up to the last frame of the window, {frames} frames; oldest at the left."]
    if len(streams) > _STREAMS_SHOWN:
        sentences.append(f"{len(streams) - _STREAMS_SHOWN} more streams: --json lists all.")
    return Section(
        title="History",
        sentences=tuple(sentences),
        header=("signal", "history", "least", "most", "last"),
        rows=tuple(rows),
    )


def spark(points: _Points, begin: int, end: int, *, blocks: bool = True, columns: int = _LINE_COLUMNS) -> str:
    """Draw numbers over time in one line of characters of eight heights; a dot where there is none."""
    sums, counts = [0.0] * columns, [0] * columns
    width = max(1, end - begin + 1)
    for time, number in points:
        place = min(columns - 1, max(0, (time - begin) * columns // width))
        sums[place] += number
        counts[place] += 1
    means = [total / count if count else None for total, count in zip(sums, counts, strict=True)]
    there = [mean for mean in means if mean is not None]
    low, high = min(there, default=0.0), max(there, default=0.0)
    heights, nothing = (_BLOCKS, _NO_BLOCK) if blocks else (_ASCII, _NO_ASCII)
    # A signal that hardly moves is drawn as a flat line in the middle, not as a mountain of noise.
    room = max(high - low, _FLAT_SHARE * max(abs(low), abs(high)))
    base = (low + high - room) / 2
    return "".join(
        nothing if mean is None else heights[min(7, int((mean - base) / room * 8))] if room else heights[3]
        for mean in means
    )


def history_json(manifest: Manifest, tables: Sequence[TrackTable]) -> dict[str, Any] | None:
    """Return the whole track as JSON data; None when there is none."""
    track = manifest.track
    if track is None:
        return None
    return {
        "signals": {signal.name: signal.unit for signal in track.signals},
        "levels": [
            {
                "stream": table.level.stream,
                "seconds": table.level.seconds,
                "rows": table.level.rows,
                "from": iso(table.level.from_ns),
                "to": iso(table.level.to_ns),
                "columns": {name: [_short(each) for each in numbers] for name, numbers in table.columns.items()},
            }
            for table in tables
        ],
        "thumbnails": [
            {"member": each.member, "stream": each.stream, "frame": each.frame, "time": iso(each.time_ns)}
            for each in track.thumbnails
        ],
    }


def csv_lines(tables: Sequence[TrackTable]) -> Iterator[bytes]:
    """Yield tables of one resolution as one CSV file (RFC 4180, UTF-8), the stream in the first column.

    Numbers that are not there are empty. A stream's name that a spreadsheet would run as a formula gets a ``'`` before.
    """
    names = list(dict.fromkeys(name for table in tables for name in table.columns))
    yield _line(["stream", *names])
    for table in tables:
        stream = table.level.stream
        stream = f"'{stream}" if stream.startswith(_FORMULA) else stream
        columns = [table.columns.get(name) for name in names]
        for row in range(table.level.rows):
            yield _line([stream, *("" if column is None else _cell(column[row]) for column in columns)])


def _line(cells: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode(errors="replace")


def _cell(number: float) -> object:
    return "" if isinstance(number, float) and not math.isfinite(number) else _short(number)


def _short(number: float) -> float:
    """A float32 in as many digits as it has."""
    return float(f"{number:.7g}") if isinstance(number, float) else number


def _span(tables: Sequence[TrackTable]) -> tuple[int, int]:
    """Monotonic time of a stream's oldest and newest row."""
    ends = [
        (table.columns["monotonic_ns"][0], table.columns["monotonic_ns"][-1]) for table in tables if table.level.rows
    ]
    return int(min((begin for begin, _ in ends), default=0)), int(max((end for _, end in ends), default=0))


def _frames(tables: Sequence[TrackTable]) -> int:
    """Frames within the longest reach: those of the coarsest level."""
    coarsest = max(tables, key=lambda table: table.level.seconds)
    return coarsest.level.rows if not coarsest.level.seconds else int(sum(coarsest.columns["frames"]))


def series(tables: Sequence[TrackTable], signal: str, clock: str = "monotonic_ns") -> _Points:
    """A signal over time, by "monotonic_ns" or "time_ns", from the finest level that reaches there."""
    points: _Points = []
    for table in sorted(tables, key=lambda table: table.level.seconds):
        numbers = table.columns.get(f"{signal}.{list(PARTS)[1]}" if table.level.seconds else signal)
        if numbers is None:
            continue
        oldest = min((time for time, _ in points), default=2**63)
        points += [
            (int(time), float(number))
            for time, number in zip(table.columns[clock], numbers, strict=True)
            if math.isfinite(number) and time + table.level.seconds * 10**9 <= oldest
        ]
    return sorted(points)


def _number(number: float) -> str:
    return f"{number:.3g}"
