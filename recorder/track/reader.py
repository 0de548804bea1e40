"""Reads a track: the sealer's own that goes on, one that is sealed, a dead one's; a file that only claims to be one.

It reads with ``pread`` alone, so that a file truncated under it is an error and not a signal. Slots that are damaged
or half-written are passed over; what stands in the others is checked before it is used. Memory is bounded by the
file's size, which is bounded by MAX_TRACK_BYTES.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from recorder.track.decimation import LEVELS, Decimator, Interval
from recorder.track.layout import (
    HEADER_BYTES,
    INTERVALS,
    ROWS,
    STREAM_HEAD,
    STREAMS,
    THUMBNAIL_HEAD,
    THUMBNAILS,
    Layout,
    TrackInvalid,
    TrackUnavailable,
    slot_is_sound,
    unpack_header,
)
from recorder.track.row import RAISED, ROW_SECONDS

__all__ = ["TrackReader", "TrackView"]

Slots = npt.NDArray[Any]

#: Beyond it, sums of times would not fit 64 bits; monotonic clocks begin near 0, wall clocks are in 2**60.
_MAX_TIME_NS = 2**62

_THUMBNAIL_TYPE = np.dtype([("stream", "<u2"), ("frame", "<u8"), ("time_ns", "<i8"), ("monotonic_ns", "<i8")])


@dataclass(slots=True)
class TrackView:
    """What a track holds.

    Attributes:
        layout: of the file.
        streams: name by index.
        rows: structured, in the order they were written (`Layout.row_type`).
        intervals: structured, for each of LEVELS, in the order they were closed (`Layout.interval_type`).
        thumbnails: stream, frame, time_ns and monotonic_ns of each file in ``files``.
        files: JPEG files.
        last_numbers: of each region, the number of the last slot written.
    """

    layout: Layout
    streams: dict[int, str]
    rows: Slots
    intervals: tuple[Slots, ...]
    thumbnails: Slots
    files: list[bytes]
    last_numbers: list[int]

    def open_intervals(self) -> tuple[Decimator, list[Interval]]:
        """Rebuild the intervals that were open, from the rows and closed intervals that came after the last closed.

        Returns:
            The open ones, and those that had closed without being written: the sealer died between two writes.
        """
        decimator = Decimator(tuple(level.seconds for level in LEVELS))
        unwritten: list[Interval] = []
        for level, closed in reversed(list(enumerate(self.intervals))):
            if level + 1 < len(LEVELS):
                for slot in _after(closed, "last_row", self.intervals[level + 1]):
                    unwritten += decimator.add(_interval(slot), level + 1)
        for slot in _after(self.rows, "number", self.intervals[0]):
            unwritten += decimator.add(_of_row(slot))
        return decimator, unwritten

    def until(self, row: int) -> TrackView:
        """Return what the track held when ``row`` was its last."""
        rows = self.rows[self.rows["number"] <= row]
        intervals = tuple(each[each["last_row"] <= row] for each in self.intervals)
        newest = int(rows["monotonic_ns"].max()) if len(rows) else 0
        kept = self.thumbnails["monotonic_ns"] <= newest
        files = [file for file, keep in zip(self.files, kept.tolist(), strict=True) if keep]
        return TrackView(
            self.layout, self.streams, rows, intervals, self.thumbnails[kept], files, list(self.last_numbers)
        )

    def recent(self) -> TrackView:
        """Return what is within reach: rows of the last minute, each level as far back as it goes; open intervals too.

        Counted back from the newest row of all streams.
        """
        if not len(self.rows):
            return self
        newest = int(self.rows["monotonic_ns"].max())
        history = self.layout.history_seconds

        def since(seconds: float) -> int:
            return newest - int(min(seconds, history) * 1e9)

        decimator, unwritten = self.open_intervals()
        open_now = [*unwritten, *decimator.unfinished()]
        intervals = []
        for level, closed in zip(LEVELS, self.intervals, strict=True):
            # The last level reaches as far as the history does.
            oldest = since(history if level is LEVELS[-1] else level.reach_seconds)
            unfinished = [each for each in open_now if each.seconds == level.seconds]
            whole = np.concatenate([closed, _slots(unfinished, self.layout)])
            intervals.append(whole[whole["start_ns"] >= oldest])
        kept = self.thumbnails["monotonic_ns"] >= since(history)
        files = [file for file, keep in zip(self.files, kept.tolist(), strict=True) if keep]
        return TrackView(
            self.layout,
            self.streams,
            self.rows[self.rows["monotonic_ns"] >= since(ROW_SECONDS)],
            tuple(intervals),
            self.thumbnails[kept],
            files,
            list(self.last_numbers),
        )


class TrackReader:
    """Reads the track at ``path``.

    Raises:
        TrackUnavailable: it cannot be opened or belongs to another user.
        TrackInvalid: it is no track.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Non-blocking, so that a pipe planted under the name does not hang us.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TrackUnavailable(f"the track {path} cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise TrackInvalid(f"{path} is no track: it is not an ordinary file")
            if status.st_uid != os.geteuid():
                raise TrackUnavailable(f"the track {path} belongs to user {status.st_uid}")
            self.layout = unpack_header(os.pread(self._descriptor, HEADER_BYTES, 0), status.st_size)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def require_owner(self, owner: str) -> None:
        """Refuse the track of another recording, left under the same name.

        Raises:
            TrackInvalid: it is one.
        """
        if self.layout.owner != owner:
            raise TrackInvalid(f"the track {self.path} belongs to another recording")

    def load(self) -> TrackView:
        """Read everything that is sound.

        Raises:
            TrackInvalid: the file was truncated while it was read.
        """
        layout = self.layout
        last = [0] * len(layout.slots)
        streams, last[STREAMS] = self._streams()
        rows, last[ROWS] = self._numbered(ROWS, layout.row_type, streams)
        rows = rows[(np.abs(rows["monotonic_ns"]) < _MAX_TIME_NS) & (np.abs(rows["time_ns"]) < _MAX_TIME_NS)]
        intervals = []
        for index, level in enumerate(LEVELS):
            found, last[INTERVALS + index] = self._numbered(INTERVALS + index, layout.interval_type, streams)
            fits = (found["seconds"] == level.seconds) & (np.abs(found["start_ns"]) < _MAX_TIME_NS)
            intervals.append(found[fits & (np.abs(found["time_ns"]) < _MAX_TIME_NS)])
        thumbnails, files, last[THUMBNAILS] = self._thumbnails(streams)
        return TrackView(layout, streams, rows, tuple(intervals), thumbnails, files, last)

    def _sound(self, region: int) -> list[memoryview]:
        """The slots of a region that were written to their end."""
        layout = self.layout
        start, size = layout.offsets[region], layout.slot_bytes[region]
        length = layout.offsets[region + 1] - start
        data = memoryview(os.pread(self._descriptor, length, start))
        if len(data) != length:
            raise TrackInvalid(f"the track {self.path} was truncated while it was read")
        slots = (data[place : place + size] for place in range(0, length, size))
        return [slot for slot in slots if slot_is_sound(slot)]

    def _numbered(self, region: int, kind: np.dtype[np.void], streams: dict[int, str]) -> tuple[Slots, int]:
        """Sound slots of streams that are known, at the place of their number, in order; and the last number."""
        found = np.frombuffer(b"".join(self._sound(region)), kind)
        # A number beyond any that can be reached stands for no slot; adding to it must stay within 64 bits.
        found = found[(found["number"] > 0) & (found["number"] < 2**62)]
        found = found[np.argsort(found["number"], kind="stable")]
        if len(found):
            # Of two with one number, or more than a turn behind: not what the writer leaves.
            distinct = np.concatenate([[True], np.diff(found["number"]) > 0])
            found = found[distinct]
            found = found[found["number"] + self.layout.slots[region] > found["number"][-1]]
        last = int(found["number"][-1]) if len(found) else 0
        return found[np.isin(found["stream"], list(streams))], last

    def _streams(self) -> tuple[dict[int, str], int]:
        streams: dict[int, str] = {}
        for slot in self._sound(STREAMS):
            _, index, length, _ = STREAM_HEAD.unpack_from(slot)
            name = bytes(slot[STREAM_HEAD.size : STREAM_HEAD.size + length])
            if index < self.layout.slots[STREAMS]:
                streams[index] = name.decode(errors="replace")[:200]
        # The table is filled from 0 on without gaps; what stands behind a gap was lost with it.
        whole = 0
        while whole in streams:
            whole += 1
        return {index: streams[index] for index in range(whole)}, whole

    def _thumbnails(self, streams: dict[int, str]) -> tuple[Slots, list[bytes], int]:
        found = []
        for slot in self._sound(THUMBNAILS):
            _, stream, length, number, frame, time_ns, monotonic_ns = THUMBNAIL_HEAD.unpack_from(slot)
            data = bytes(slot[THUMBNAIL_HEAD.size : THUMBNAIL_HEAD.size + length])
            sane = 0 < number < 2**62 and abs(time_ns) < _MAX_TIME_NS and abs(monotonic_ns) < _MAX_TIME_NS
            if sane and stream in streams and len(data) == length and data.startswith(b"\xff\xd8\xff"):
                found.append((number, (stream, frame, time_ns, monotonic_ns), data))
        found.sort(key=lambda each: each[0])
        heads = np.array([head for _, head, _ in found], _THUMBNAIL_TYPE)
        return heads, [data for _, _, data in found], found[-1][0] if found else 0


def _after(slots: Slots, number: str, closed: Slots) -> Slots:
    """Slots that are in no closed interval of their stream yet."""
    last: dict[int, int] = {}
    for stream, row in zip(closed["stream"].tolist(), closed["last_row"].tolist(), strict=True):
        last[stream] = max(row, last.get(stream, 0))
    if not last:
        return slots
    limits = np.zeros(2**16, np.uint64)
    limits[list(last)] = list(last.values())
    later: Slots = slots[slots[number] > limits[slots["stream"]]]
    return later


def _of_row(slot: Any) -> Interval:
    return Interval.of_frame(
        int(slot["stream"]),
        int(slot["number"]),
        int(slot["frame"]),
        int(slot["time_ns"]),
        int(slot["monotonic_ns"]),
        int(slot["status"]) == RAISED,
        slot["values"],
    )


def _interval(slot: Any) -> Interval:
    count = slot["count"].astype(np.int64)
    low, mean, high = (slot[name].astype(np.float64) for name in ("low", "mean", "high"))
    there = (count > 0) & np.isfinite(low) & np.isfinite(mean) & np.isfinite(high)
    count = np.where(there, count, 0)
    return Interval(
        stream=int(slot["stream"]),
        seconds=int(slot["seconds"]),
        start_ns=int(slot["start_ns"]),
        time_ns=int(slot["time_ns"]),
        first_frame=int(slot["first_frame"]),
        last_row=int(slot["last_row"]),
        frames=int(slot["frames"]),
        raised=int(slot["raised"]),
        low=np.where(there, low, np.inf),
        total=np.where(there, mean, 0.0) * count,
        high=np.where(there, high, -np.inf),
        count=count,
    )


def _slots(intervals: list[Interval], layout: Layout) -> Slots:
    """Intervals as the file would hold them."""
    slots = np.zeros(len(intervals), layout.interval_type)
    for slot, each in zip(slots, intervals, strict=True):
        there = each.count > 0
        slot["stream"], slot["seconds"] = each.stream, each.seconds
        slot["frames"], slot["raised"] = min(each.frames, 2**32 - 1), min(each.raised, 2**32 - 1)
        slot["first_frame"], slot["last_row"] = each.first_frame, each.last_row
        slot["start_ns"], slot["time_ns"] = each.start_ns, each.time_ns
        for name, numbers in (("low", each.low), ("mean", each.mean), ("high", each.high)):
            slot[name] = np.where(there, numbers, np.nan)
        slot["count"] = np.minimum(each.count, 2**32 - 1)
    return slots
