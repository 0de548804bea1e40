"""Shared by the ring's tests: making small rings, and records whose bytes prove themselves."""

from __future__ import annotations

import struct
from pathlib import Path

from recorder.ring import Reservation, RingIdentity, RingReader, RingWriter

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
_HEAD = struct.Struct("<QQQ")
#: Least size of a self-checking record.
LEAST_BYTES = _HEAD.size


def make_ring(path: Path, *, frames: int = 64 << 10, events: int = 16 << 10, contexts: int = 16 << 10) -> RingWriter:
    """A ring of this process, sizes in bytes."""
    return RingWriter.create(
        path,
        frames_bytes=frames,
        events_bytes=events,
        contexts_bytes=contexts,
        identity=RingIdentity.of_this_process("tests"),
    )


def self_checking(key: int, size_bytes: int) -> bytes:
    """A record that names its key and size and whose every byte follows from them."""
    seed = (key * 2654435761 + size_bytes) & 0xFFFFFFFFFFFFFFFF
    pattern = seed.to_bytes(8, "little")
    body = (pattern * (size_bytes // 8 + 1))[: size_bytes - LEAST_BYTES]
    return _HEAD.pack(key, size_bytes, seed) + body


def write(ring: RingWriter, region: int, data: bytes, *, kind: int = 1, key: int = 0) -> Reservation:
    """Reserve, copy, commit; the reservation must be had."""
    reservation = ring.reserve(region, kind, key, len(data))
    assert reservation is not None
    reservation.view[:] = data
    assert ring.commit(reservation)
    return reservation


def contents(path: Path, region: int, *, skip_pending: bool = False) -> dict[int, bytes]:
    """Every committed record of a region as a reader of its own finds it, by number."""
    with RingReader(path) as reader:
        found = {}
        for record in reader.scan(region, skip_pending=skip_pending):
            data = reader.read(record)
            assert data is not None
            found[record.number] = data
        return found
