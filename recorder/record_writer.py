"""Where the records of one process go: which part of the ring, at once or when a copy from a GPU is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from ctypes import memmove
from typing import Any

from recorder.capture import Description, device
from recorder.counts import Counts
from recorder.lanes import Lanes
from recorder.late import LateRecords
from recorder.records import Kind, pack_head
from recorder.ring import CONTEXTS, EVENTS, FRAMES, RingWriter

__all__ = ["Part", "RecordWriter"]

#: Frames whose streams are remembered: of more that are open at once, some records take another's share.
_FRAMES_OPEN = 4_096

#: Time between two frames too large for the ring of which a digest is taken.
_DIGEST_SECONDS = 1.0

_REGIONS = {
    Kind.TRIGGER: EVENTS,
    Kind.FLUSH: EVENTS,
    Kind.LOSSES: EVENTS,
    Kind.VERIFIED: EVENTS,
    Kind.CONFIG: CONTEXTS,
    Kind.CONTEXT: CONTEXTS,
    Kind.MODEL: CONTEXTS,
    Kind.WEIGHTS: CONTEXTS,
    Kind.EXPORT: CONTEXTS,
    Kind.GRAPH: CONTEXTS,
    Kind.PROBLEM: CONTEXTS,
    Kind.DOUBT: CONTEXTS,
}

#: Some bytes of a payload: address on the host, offset in the payload, number of bytes.
Part = tuple[int, int, int]


class RecordWriter:
    """Writes the records of a session.

    Args:
        ring: None where there could be none: then every record is lost, and counted.
        lost: what could not be recorded, by reason.
        crowded: called once for each stream that gets no share of its own.
    """

    def __init__(self, ring: RingWriter | None, lost: Counts, crowded: Any) -> None:
        self._ring = ring
        self._lost = lost
        self._lanes = Lanes(ring, crowded) if ring is not None and len(ring.lanes) > 1 else None
        self._streams = [""] * _FRAMES_OPEN
        self.late: LateRecords | None = None  #: made when the first tensor on a GPU is recorded
        self._late_lock = threading.RLock()
        self._next_digest = 0.0

    def write(self, kind: Kind, key: int, head: Mapping[str, Any], payload: Description | None = None) -> bool:
        """Commit one record. False when it was too large or the ring was contended, which is counted."""
        ring = self._ring
        if ring is None:
            self._lost.add("no-ring")
            return True
        data, start = pack_head(dict(head))
        size = start + payload.size_bytes if payload is not None and payload.leaves else len(data)
        region = _REGIONS.get(kind, FRAMES)
        if region == FRAMES and self._lanes is not None:
            region = self._lanes.region(self._streams[key % _FRAMES_OPEN], size)
        reservation = ring.reserve(region, kind, key, size)
        if reservation is None:
            return False
        try:
            memmove(reservation.address, data, len(data))
            if payload is not None and payload.has_remote:
                return self._late_records(ring).add(reservation, payload, start)
            if payload is not None:
                payload.copy_to(reservation.address + start)
        except BaseException:
            ring.abandon(reservation)
            raise
        ring.commit(reservation)
        return True

    def append(self, kind: int, key: int, head: bytes, payload_bytes: int = 0, parts: Sequence[Part] = ()) -> bool:
        """Commit one record of a frame: a packed head, and the parts of its payload, whose memory the caller keeps.

        What `write` does for any head and payload, without a detour.
        """
        ring = self._ring
        if ring is None:
            self._lost.add("no-ring")
            return True
        lanes = self._lanes
        if lanes is None:
            return ring.append(FRAMES, kind, key, head, payload_bytes, parts)
        stream = self._streams[key % _FRAMES_OPEN]
        return ring.append(lanes.region(stream, len(head) + payload_bytes), kind, key, head, payload_bytes, parts)

    def frame_begins(self, frame: int, stream: str) -> None:
        """Remember whose share of the ring a frame's records take."""
        self._streams[frame % _FRAMES_OPEN] = stream

    def describe_left_out(self, heads: Sequence[Mapping[str, Any]], payload: Description) -> list[dict[str, Any]]:
        """Describe images that were not recorded; of those that are larger than the ring allows the digest is taken.

        Hashing costs the caller a millisecond per megabyte: at most once a second, the other digests are None.
        """
        described = [{**head, "sha256": None} for head in heads]
        if self._ring is None or payload.size_bytes < self._ring.capacity(FRAMES)[0]:
            return described  # the ring was contended: the next frame of the kind will be kept
        now = time.monotonic()
        if now >= self._next_digest:
            self._next_digest = now + _DIGEST_SECONDS
            for head, leaf in zip(described, payload.leaves, strict=True):
                head["sha256"] = leaf.sha256()
        return described

    def drain(self) -> None:
        """Commit what has come from a GPU meanwhile. Never waits."""
        if self.late is not None:
            self.late.drain()

    def finish(self, timeout_seconds: float) -> None:
        """Wait for what is still to come from a GPU."""
        if self.late is not None:
            self.late.finish(timeout_seconds)

    def forget(self) -> None:
        """Let go of the ring: in a forked child it is the parent's."""
        self._ring = None

    def _late_records(self, ring: RingWriter) -> LateRecords:
        late = self.late
        if late is None:
            with self._late_lock:
                if self.late is None:
                    self.late = LateRecords(ring, device.copies(), self._lost)
                late = self.late
        return late
