"""A record appended in one step is the record that reserve, copy and commit make."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.ring import FRAMES, RingReader, RingWriter
from tests.ring.rings import contents, make_ring

Record = tuple[bytes, list[bytes]]
RECORDS = st.lists(st.tuples(st.binary(max_size=300), st.lists(st.binary(max_size=3_000), max_size=3)), max_size=60)


def laid_out(parts: list[bytes]) -> tuple[list[tuple[int, int, int]], int, list[ctypes.Array[ctypes.c_char]]]:
    """Addresses, places and sizes of parts behind each other, the payload's size, and what keeps them alive."""
    places, held, end = [], [], 0
    for part in parts:
        memory = ctypes.create_string_buffer(part, max(1, len(part)))
        start = end + 63 & -64
        places.append((ctypes.addressof(memory), start, len(part)))
        held.append(memory)
        end = start + len(part)
    return places, end, held


def append(ring: RingWriter, record: Record, key: int) -> bool:
    head, parts = record
    places, payload_bytes, held = laid_out(parts)
    written = ring.append(FRAMES, 7, key, head, payload_bytes, places)
    assert len(held) == len(parts)
    return written


def reserve_and_commit(ring: RingWriter, record: Record, key: int) -> bool:
    head, parts = record
    places, payload_bytes, held = laid_out(parts)
    start = len(head) + 63 & -64
    reservation = ring.reserve(FRAMES, 7, key, start + payload_bytes if payload_bytes else len(head))
    if reservation is None:
        return False
    ctypes.memmove(reservation.address, head, len(head))
    for address, offset, size_bytes in places:
        ctypes.memmove(reservation.address + start + offset, address, size_bytes)
    assert len(held) == len(parts)
    return ring.commit(reservation)


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_append_leaves_the_ring_as_reserve_and_commit_do(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    """Over several turns of the ring, and where a record is refused."""
    directory = tmp_path_factory.mktemp("rings")
    rings = [make_ring(directory / f"{name}.ring", frames=16 << 10) for name in ("one", "two")]
    for number, record in enumerate(records):
        assert append(rings[0], record, number) == reserve_and_commit(rings[1], record, number)
    readers = [RingReader(ring.path) for ring in rings]
    found = [[(*slot_of(record), reader.read(record)) for record in reader.scan(FRAMES)] for reader in readers]
    assert found[0] == found[1] and rings[0].losses == rings[1].losses
    assert rings[0].open_reservations == 0
    for reader, ring in zip(readers, rings, strict=True):
        reader.close()
        ring.close()
        ring.path.unlink()


def slot_of(record: object) -> tuple[int, ...]:
    names = ("number", "kind", "key", "offset", "size_bytes", "sequence")
    return tuple(getattr(record, name) for name in names)


def test_a_host_that_is_interrupted_in_the_middle_of_a_copy_does_not_block_the_ring(directory: Path) -> None:
    ring = make_ring(directory / "a.ring")

    def interrupted() -> Iterator[tuple[int, int, int]]:
        raise KeyboardInterrupt
        yield (0, 0, 0)

    with pytest.raises(KeyboardInterrupt):
        ring.append(FRAMES, 1, 1, b"head", 100, interrupted())
    assert ring.open_reservations == 0
    for _ in range(100):
        assert ring.append(FRAMES, 1, 2, bytes(3_000))
    with RingReader(ring.path) as reader:
        scan = reader.scan(FRAMES)
        assert {record.key for record in scan} == {2} and scan.pending == 0


def test_records_appended_while_another_is_copied_are_both_kept(directory: Path) -> None:
    """Copies happen outside the lock: what runs meanwhile, garbage collection included, records on."""
    ring = make_ring(directory / "a.ring")

    def records_meanwhile() -> Iterator[tuple[int, int, int]]:
        assert ring.append(FRAMES, 1, 2, b"meanwhile")
        return
        yield (0, 0, 0)

    assert ring.append(FRAMES, 1, 1, b"outer", 0, records_meanwhile())
    assert contents(ring.path, FRAMES) == {1: b"outer", 2: b"meanwhile"}


def test_a_truncated_or_closed_ring_refuses_and_kills_nobody(directory: Path) -> None:
    ring = make_ring(directory / "a.ring")
    assert ring.append(FRAMES, 1, 1, b"before")
    os.truncate(ring.path, 4096)
    assert not ring.append(FRAMES, 1, 2, b"after") and ring.losses == {"frames-truncated": 1}
    assert not ring.append(FRAMES, 1, 3, b"later") and ring.losses["ring-closed"] == 1
