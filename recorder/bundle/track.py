"""The tables of a track: columns per stream and resolution of time, as one msgpack member, and back."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgpack

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import MAX_TRACK_BYTES, MAX_TRACK_LEVELS
from recorder.bundle.manifest import Track, TrackLevel

__all__ = ["INTERVAL_COLUMNS", "PARTS", "ROW_COLUMNS", "TrackTable", "decode", "encode"]

#: Columns besides the signals, with their form: "d" is 64-bit integers as differences, the others are array's codes.
ROW_COLUMNS = {"time_ns": "d", "monotonic_ns": "d", "frame": "d", "status": "B", "digest": "Q", "top_class": "i"}
INTERVAL_COLUMNS = {"time_ns": "d", "monotonic_ns": "d", "first_frame": "d", "frames": "I", "raised": "I"}
#: What an interval says of each signal; a row has its value, under its bare name.
PARTS = {"min": "f", "mean": "f", "max": "f", "count": "I"}

_VERSION = 1
#: The columns above and four of each of 64 signals, with room for those of a newer version.
_MAX_COLUMNS = 1_024


@dataclass(frozen=True, slots=True)
class TrackTable:
    """One level of the track.

    Attributes:
        level: stream, length of the intervals and number of rows.
        columns: by name, each as long as the table. Rows have those of ROW_COLUMNS and one of each signal; intervals
            those of INTERVAL_COLUMNS and ``<signal>.min``, ``.mean``, ``.max`` and ``.count``, NaN and 0 where no frame
            of the interval had it. A signal that no frame of the table had may have no column.
    """

    level: TrackLevel
    columns: dict[str, Sequence[int] | Sequence[float]]


def encode(tables: Iterable[TrackTable]) -> bytes:
    """Return the member's bytes. Signals that a table has no number of are left out."""
    listed = []
    for table in tables:
        forms = _forms(table.level, ())
        columns = {}
        for name, numbers in table.columns.items():
            form = forms.get(name) or PARTS.get(name.rpartition(".")[2] if table.level.seconds else "", "f")
            empty = all(number != number for number in numbers) if form == "f" else not any(numbers)
            if empty and name not in forms:
                continue
            columns[name] = _packed(numbers, form)
        listed.append(
            {"stream": table.level.stream, "seconds": table.level.seconds, "rows": table.level.rows, "columns": columns}
        )
    data: bytes = msgpack.packb({"version": _VERSION, "tables": listed})
    return data


def decode(data: bytes, track: Track) -> list[TrackTable]:
    """Parse the member, in the order of ``track.levels``; columns that this version does not know are left out.

    Raises:
        BundleInvalid: it is not what the manifest says, or nothing this version reads.
    """
    if len(data) > MAX_TRACK_BYTES:
        raise BundleInvalid(f"the track takes more than {MAX_TRACK_BYTES} bytes; do not open this bundle")
    content = _unpacked(data)
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise BundleInvalid("the track is of a version this program does not read; update vision-flight-recorder")
    listed = content.get("tables")
    if not isinstance(listed, list) or len(listed) != len(track.levels):
        raise BundleInvalid("the track has other tables than the manifest says; do not trust this bundle")
    names = [signal.name for signal in track.signals]
    return [_table(entry, level, names) for entry, level in zip(listed, track.levels, strict=True)]


def _unpacked(data: bytes) -> Any:
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_without_duplicates,
            ext_hook=_no_extension,
            max_ext_len=0,
            max_str_len=4_096,
            max_bin_len=MAX_TRACK_BYTES,
            max_array_len=MAX_TRACK_LEVELS,
            max_map_len=_MAX_COLUMNS,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise BundleInvalid("the track is not readable; fetch the bundle again from where it was sealed") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key stands twice")
    return mapping


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError("extension types are not part of the format")


def _table(entry: Any, level: TrackLevel, signals: Sequence[str]) -> TrackTable:
    match entry:
        case {"stream": level.stream, "seconds": level.seconds, "rows": level.rows, "columns": dict(packed)}:
            pass
        case _:
            raise BundleInvalid("a table of the track is another than the manifest says; do not trust this bundle")
    columns: dict[str, Sequence[int] | Sequence[float]] = {}
    plain = INTERVAL_COLUMNS if level.seconds else ROW_COLUMNS
    for name, form in _forms(level, signals).items():
        data = packed.get(name)
        if isinstance(data, bytes):
            columns[name] = _numbers(data, form, level.rows)
        elif data is not None or name in plain:
            raise BundleInvalid("a table of the track lacks a column; do not trust this bundle")
    return TrackTable(level, columns)


def _forms(level: TrackLevel, signals: Iterable[str]) -> dict[str, str]:
    if not level.seconds:
        return ROW_COLUMNS | dict.fromkeys(signals, "f")
    return INTERVAL_COLUMNS | {f"{name}.{part}": form for name in signals for part, form in PARTS.items()}


def _packed(numbers: Iterable[Any], form: str) -> bytes:
    values: array[Any]
    if form == "d":
        whole = [int(number) for number in numbers]
        values = array("q", (after - before for before, after in zip([0, *whole], whole, strict=False)))
    else:
        values = array(form, numbers)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _numbers(data: bytes, form: str, rows: int) -> Sequence[int] | Sequence[float]:
    values: array[Any] = array("q" if form == "d" else form)
    if len(data) != rows * values.itemsize:
        raise BundleInvalid("a column of the track has another length than its table; do not trust this bundle")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    if form != "d":
        return values
    try:
        return array("q", accumulate(values))
    except OverflowError:
        raise BundleInvalid("a column of the track holds numbers beyond 64 bits; do not trust this bundle") from None
