"""Each frame that ends gets a row in the track."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from recorder.bundle import BundleWriter
from recorder.bundle.images import thumbnail
from recorder.bundle.manifest import Track
from recorder.counts import Counts
from recorder.privacy import Level
from recorder.privacy.redaction import RedactionFailed, redact
from recorder.records import RecordInvalid
from recorder.ring import RingReader
from recorder.sealer.image_redacting import image_field
from recorder.sealer.measuring import CPU_SHARE, Measuring, Picture
from recorder.sealer.stages import StageRecord
from recorder.settings import SealerSettings
from recorder.track import Row, TrackInvalid, TrackUnavailable, TrackWriter, track_path
from recorder.track.sealed import load_track, store_track

__all__ = ["TrackSource", "Tracking"]


@dataclass(frozen=True, slots=True)
class TrackSource:
    """Where a window's history is to be read from when it is sealed."""

    path: Path
    owner: str  #: the recording it must be of
    last_row: int | None = None  #: number of the last row that belongs to it; None: all do

    @classmethod
    def beside(cls, reader: RingReader) -> Self | None:
        """Return the track of a ring; None when it has none."""
        path = track_path(reader.path)
        return cls(path, owner_of(reader)) if os.path.lexists(path) else None

    def store(self, writer: BundleWriter, stream: str, lost: Counts) -> Track | None:
        """Put the history into a bundle; a track that cannot be read is counted and left out."""
        try:
            return store_track(writer, load_track(self.path, self.owner, self.last_row), stream)
        except (TrackInvalid, TrackUnavailable, OSError):
            lost.add("track-unreadable")
            return None


def owner_of(reader: RingReader) -> str:
    """Name the recording a ring is of, so that its track is not taken for another's."""
    identity = reader.header.identity
    return f"{identity.boot_id} {identity.pid} {identity.start_ticks}"


class Tracking:
    """Writes the track of one ring.

    Args:
        path: of the track.
        size_bytes: of the track.
        owner: names the recording it is of.
        history_seconds: how far back it reaches.
        cpu_share: of one core that measuring may take.
        clock: the time by which the share is counted, in seconds.

    Raises:
        TrackUnavailable: there is no room for it.

    Attributes:
        lost: rows and parts of rows that were not kept, by reason.
        measuring: what measures the frames, and counts the CPU time.
        frames: rows written.
    """

    def __init__(
        self,
        path: Path,
        size_bytes: int,
        owner: str,
        history_seconds: float,
        *,
        cpu_share: float = CPU_SHARE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = TrackWriter(path, size_bytes, owner, history_seconds)
        self.path = path
        self.owner = owner
        self.lost = self._writer.lost
        self.frames = 0
        self.measuring = Measuring(self.lost, cpu_share=cpu_share, clock=clock)

    @classmethod
    def of_ring(cls, reader: RingReader, settings: SealerSettings) -> Self | None:
        """Begin or resume the track of a ring; None when it is to have none, or there is no room."""
        if not settings.track_bytes:
            return None
        try:
            return cls(track_path(reader.path), settings.track_bytes, owner_of(reader), settings.history_seconds)
        except (TrackUnavailable, OSError, ValueError):
            return None

    def source(self) -> TrackSource:
        """Return the history as it is now."""
        return TrackSource(self.path, self.owner, self.last_row)

    @property
    def last_row(self) -> int:
        """Number of the last row written."""
        return self._writer.last_row

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._writer.close()

    def add(self, frame: int, stream: str, stages: Sequence[StageRecord]) -> Row | None:
        """Note a frame that has ended, given its records, and return its row.

        What cannot be measured or written is counted. None: it was noted before, or nothing could be measured.
        """
        began = time.thread_time()
        row = None
        try:
            if not self._writer.knows(frame):
                row, picture = self.measuring.row(frame, stream, stages)
                self._write(row, picture, stages[-1].head.get("metadata"))
        except (RecordInvalid, KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self.lost.add("track-row-malformed")
        except OSError:
            self.lost.add("track-not-written")
        self.measuring.spend(time.thread_time() - began)
        return row

    def _write(self, row: Row, picture: Picture | None, metadata: object) -> None:
        small = self._thumbnail(row, picture.entry, picture.pixels, metadata) if picture is not None else None
        self._writer.add(row)
        self.frames += 1
        if small is not None:
            self._writer.add_thumbnail(row, small)

    def _thumbnail(self, row: Row, entry: dict[str, Any], pixels: npt.NDArray[Any], metadata: object) -> bytes | None:
        """Make a small image where one is due, redacted as the image will be; none where that takes user code."""
        if not self._writer.wants_thumbnail(row.stream, row.monotonic_ns):
            return None
        field = image_field(str(entry["name"]))
        own = [Level(self.measuring.policy.levels.get(each, Level.FULL)) for each in ("track", "thumbnails")]
        level = self.measuring.policy.level_of(field)
        if level is Level.DIGEST_ONLY or Level.DIGEST_ONLY in own or (level is Level.FULL and Level.REDACTED in own):
            return None
        if level is Level.REDACTED:
            if entry["encoding"] != "pixels":
                return None  # decoded to a reduced size, in which the boxes are elsewhere
            try:
                pixels = redact(
                    pixels, self.measuring.policy.redactors_of(field), metadata if isinstance(metadata, dict) else {}
                )
            except RedactionFailed:
                return None
        return thumbnail(pixels)
