"""The records of a real recording in a ring small enough to be fuzzed as a whole."""

from __future__ import annotations

from pathlib import Path

from recorder.bundle.manifest import Incident, Trigger, Window
from recorder.records import HEAD_LENGTH
from recorder.ring import CONTEXTS, EVENTS, FRAMES, RingReader
from tests.ring.rings import make_ring

__all__ = ["AN_INCIDENT", "heads_of", "small_ring"]

AN_INCIDENT = Incident(
    id="0" * 32,
    stream="",
    severity="high",
    opened_ns=1,
    window=Window(pre_frames=1, post_frames=1, post_seconds=1.0, closed_by="recover"),
    triggers=(Trigger(kind="manual", reason="looks odd", frame=None, time_ns=1),),
    host="died",
)


def small_ring(recorded: Path, path: Path) -> bytes:
    """Copy the records of a ring into one at ``path``, and return its bytes."""
    ring = make_ring(path, frames=24 << 10, events=8 << 10, contexts=24 << 10)
    with RingReader(recorded) as reader:
        for region in (CONTEXTS, EVENTS, FRAMES):
            for record in reader.scan(region, skip_pending=True):
                data = reader.read(record)
                reserved = ring.reserve(region, record.kind, record.key, len(data)) if data else None
                if data is not None and reserved is not None:
                    reserved.view[:] = data
                    ring.commit(reserved)
    ring.close()
    return path.read_bytes()


def heads_of(recorded: Path) -> list[tuple[int, bytes]]:
    """Kind and packed head of every record of a ring."""
    heads = []
    with RingReader(recorded) as reader:
        for region in range(len(reader.header.regions)):
            for record in reader.scan(region, skip_pending=True):
                data = reader.read(record)
                assert data is not None
                heads.append((record.kind, data[4 : 4 + HEAD_LENGTH.unpack_from(data)[0]]))
    return heads
