"""The sealer's side of a track: rows come in, slots are written; nothing is ever read back but at the start."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from recorder.counts import Counts
from recorder.track.decimation import LEVELS, Decimator, Interval
from recorder.track.layout import (
    INTERVAL_HEAD,
    INTERVALS,
    ROW_HEAD,
    ROWS,
    STREAM_HEAD,
    STREAMS,
    THUMBNAIL_HEAD,
    THUMBNAILS,
    TrackInvalid,
    TrackUnavailable,
    pack_header,
    plan,
    seal_slot,
)
from recorder.track.reader import TrackReader
from recorder.track.row import RAISED, TRACK_SIGNALS, Row

__all__ = ["THUMBNAIL_SECONDS", "TrackWriter"]

#: Three a minute show how a scene changed.
THUMBNAIL_SECONDS = 20.0


class TrackWriter:
    """Writes a track, a new one or on from where an earlier sealer stopped.

    Args:
        path: the file; one that belongs to another recording, or is damaged, is replaced.
        size_bytes: its size, all of it taken at once.
        owner: names the recording, so that a leftover under the same path is not taken for its own.
        history_seconds: how far back intervals are kept.

    Raises:
        TrackUnavailable: there is no room for it, or it cannot be written.
        ValueError: ``size_bytes`` is out of range.

    Attributes:
        lost: what could not be kept, by reason.
        last_row: number of the last row.
    """

    def __init__(self, path: Path, size_bytes: int, owner: str, history_seconds: float) -> None:
        self.path = path
        self.lost = Counts()
        self.layout = plan(size_bytes, owner, TRACK_SIGNALS, history_seconds)
        self._next = [1] * len(self.layout.slots)
        self._streams: dict[str, int] = {}
        self._decimator = Decimator(tuple(level.seconds for level in LEVELS))
        self._thumbnail_ns: dict[int, int] = {}
        #: Frames that an earlier sealer has written and the ring may still hold.
        self._known: frozenset[int] = frozenset()
        self._descriptor: int | None = None
        if not (path.exists() and self._resume()):
            self._descriptor = self._create()

    def close(self) -> None:
        """Close the file. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    @property
    def last_row(self) -> int:
        """Number of the last row written."""
        return self._next[ROWS] - 1

    def knows(self, frame: int) -> bool:
        """Whether an earlier sealer has written the frame's row."""
        return frame in self._known

    def add(self, row: Row) -> None:
        """Write a frame's row, and the intervals it closes.

        Raises:
            OSError: the file could not be written.
        """
        stream = self._stream(row.stream)
        if stream is None:
            self.lost.add("track-streams-full")
            return
        number = self._next[ROWS]
        raised = row.status == RAISED
        head = ROW_HEAD.pack(
            0, stream, row.status, 0, number, row.frame, row.time_ns, row.monotonic_ns, row.digest, row.top_class, 0
        )
        self._write(ROWS, head + row.values.astype("<f4").tobytes())
        frame = Interval.of_frame(stream, number, row.frame, row.time_ns, row.monotonic_ns, raised, row.values)
        for closed in self._decimator.add(frame):
            self._write_interval(closed)

    def wants_thumbnail(self, stream: str, monotonic_ns: int) -> bool:
        """Whether it is time for another thumbnail of a stream."""
        index = self._streams.get(stream)
        last = self._thumbnail_ns.get(index) if index is not None else None
        # As many as fit, spread over the history and all streams.
        spread = self.layout.history_seconds * max(1, len(self._streams)) / self.layout.slots[THUMBNAILS]
        return last is None or abs(monotonic_ns - last) >= max(THUMBNAIL_SECONDS, spread) * 1e9

    def add_thumbnail(self, row: Row, data: bytes) -> None:
        """Write a frame's thumbnail, a JPEG file.

        Raises:
            OSError: the file could not be written.
        """
        stream = self._stream(row.stream)
        if stream is None:
            return
        self._thumbnail_ns[stream] = row.monotonic_ns
        if THUMBNAIL_HEAD.size + len(data) > self.layout.slot_bytes[THUMBNAILS]:
            self.lost.add("track-thumbnail-too-large")
            return
        number = self._next[THUMBNAILS]
        head = THUMBNAIL_HEAD.pack(0, stream, len(data), number, row.frame, row.time_ns, row.monotonic_ns)
        self._write(THUMBNAILS, head + data)

    def _stream(self, name: str) -> int | None:
        index = self._streams.get(name)
        if index is None and len(self._streams) < self.layout.slots[STREAMS]:
            index = len(self._streams)
            encoded = name.encode(errors="replace")[: self.layout.slot_bytes[STREAMS] - STREAM_HEAD.size]
            self._write(STREAMS, STREAM_HEAD.pack(0, index, len(encoded), self._next[STREAMS]) + encoded)
            self._streams[name] = index
        return index

    def _write_interval(self, closed: Interval) -> None:
        level = next(i for i, level in enumerate(LEVELS) if level.seconds == closed.seconds)
        region = INTERVALS + level
        there = closed.count > 0
        head = INTERVAL_HEAD.pack(
            0,
            closed.stream,
            closed.seconds,
            min(closed.frames, 2**32 - 1),
            min(closed.raised, 2**32 - 1),
            self._next[region],
            closed.first_frame,
            closed.last_row,
            closed.start_ns,
            closed.time_ns,
        )
        numbers = [np.where(there, each, np.nan).astype("<f4") for each in (closed.low, closed.mean, closed.high)]
        counts = np.minimum(closed.count, 2**32 - 1).astype("<u4")
        self._write(region, head + b"".join(each.tobytes() for each in numbers) + counts.tobytes())

    def _write(self, region: int, body: bytes) -> None:
        if self._descriptor is None:
            raise OSError("the track is closed")
        number, size = self._next[region], self.layout.slot_bytes[region]
        place = self.layout.offsets[region] + number % self.layout.slots[region] * size
        os.pwrite(self._descriptor, seal_slot(body.ljust(size, b"\0")), place)
        self._next[region] = number + 1

    def _create(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise TrackUnavailable(f"the track {self.path} cannot be made: {error.strerror}") from error
        try:
            # All of it now: a tmpfs that fills up later must not take what the bound promised.
            os.posix_fallocate(descriptor, 0, self.layout.file_bytes)
            os.pwrite(descriptor, pack_header(self.layout), 0)
        except OSError as error:
            os.close(descriptor)
            self.path.unlink(missing_ok=True)
            raise TrackUnavailable(f"there is no room for the track {self.path}: {error.strerror}") from error
        return descriptor

    def _resume(self) -> bool:
        """Go on where the file ends; False when it is none of this recording's."""
        try:
            with TrackReader(self.path) as reader:
                found = reader.layout
                if (found.owner, found.signals) != (self.layout.owner, self.layout.signals):
                    return False
                stored = reader.load()
                # Another sealer may have been told another size; the history that is there counts more.
                self.layout = found
        except (TrackInvalid, TrackUnavailable, OSError):
            self.lost.add("track-replaced")
            return False
        self._streams = {name: index for index, name in stored.streams.items()}
        self._next = [last + 1 for last in stored.last_numbers]
        self._decimator, unwritten = stored.open_intervals()
        self._known = frozenset(stored.rows["frame"].tolist())
        for stream, monotonic_ns in zip(
            stored.thumbnails["stream"].tolist(), stored.thumbnails["monotonic_ns"].tolist(), strict=True
        ):
            self._thumbnail_ns[stream] = max(monotonic_ns, self._thumbnail_ns.get(stream, monotonic_ns))
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            for closed in unwritten:
                self._write_interval(closed)
        except OSError as error:
            raise TrackUnavailable(f"the track {self.path} cannot be written: {error.strerror}") from error
        return True
