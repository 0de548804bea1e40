"""Forged and damaged ring files: one sentence or clean records, never another exception, never much memory."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.ring import CONTEXTS, EVENTS, FRAMES, RingInvalid, RingReader, RingUnavailable
from recorder.ring.layout import HEADS_OFFSET, MOVING_OFFSET, REGION, REGIONS_OFFSET, SLOT_BYTES
from tests.ring.rings import make_ring, write

MUTATIONS = 2000


def a_ring(directory: Path) -> bytearray:
    """The bytes of a small ring with records in every region."""
    ring = make_ring(directory / "genuine.ring", frames=16 << 10, events=8 << 10, contexts=8 << 10)
    for number in range(40):
        for region, size_bytes in ((CONTEXTS, 100), (EVENTS, 60), (FRAMES, 900)):
            if ring.reserve(region, 0, 0, 1) is not None:
                reservation = ring.reserve(region, number, number, size_bytes)
                if reservation is not None:
                    ring.commit(reservation)
    ring.close()
    return bytearray(ring.path.read_bytes())


def read_everything(path: Path) -> int:
    """Everything a sealer would do with a ring; how many records came back."""
    delivered = 0
    with RingReader(path) as reader:
        reader.refresh()
        for region in range(len(reader.header.regions)):
            for record in reader.scan(region, skip_pending=True):
                data = reader.read(record)
                assert data is None or len(data) == record.size_bytes
                delivered += 1
    return delivered


def test_mutated_rings_are_refused_or_read_cleanly(directory: Path) -> None:
    """Bits, words, whole fields and the length, at random."""
    genuine = a_ring(directory)
    path = directory / "mutated.ring"
    path.write_bytes(genuine)
    assert read_everything(path) > 10
    chance = random.Random(20240601)
    header_words = [*range(44), *range(MOVING_OFFSET // 8, MOVING_OFFSET // 8 + 3)]
    header_words += range(REGIONS_OFFSET // 8, HEADS_OFFSET // 8 + 8)
    extremes = [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(genuine), 4096, SLOT_BYTES]
    refused = 0
    with path.open("rb+", buffering=0) as file:
        tracemalloc.start()
        for _ in range(MUTATIONS):
            mutated = bytearray(genuine)
            for _ in range(chance.randint(1, 4)):
                match chance.randrange(5):
                    case 0:
                        mutated[chance.randrange(len(mutated))] ^= 1 << chance.randrange(8)
                    case 1 | 2:
                        struct.pack_into("<Q", mutated, chance.choice(header_words) * 8, chance.choice(extremes))
                    case 3:
                        struct.pack_into(
                            "<Q", mutated, chance.randrange(len(mutated) // 8) * 8, chance.choice(extremes)
                        )
                    case _:
                        mutated = mutated[: chance.randrange(4096, len(mutated))]
            file.truncate(len(mutated))
            file.seek(0)
            file.write(mutated)
            try:
                read_everything(path)
            except RingInvalid as error:
                refused += 1
                assert str(error).endswith(".") and "\n" not in str(error)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert MUTATIONS // 4 < refused < MUTATIONS
    assert peak_bytes < 2 << 20


def _word(offset: int, value: int) -> Callable[[bytearray], None]:
    return lambda ring: struct.pack_into("<Q", ring, offset, value)


def _region_word(region: int, field: int, value: int) -> Callable[[bytearray], None]:
    return _word(REGIONS_OFFSET + region * REGION.size + 24 + field * 8, value)


@pytest.mark.parametrize(
    ("forge", "sentence"),
    [
        (lambda ring: ring.__setitem__(slice(0, 1), b"X"), "magic"),
        (lambda ring: struct.pack_into("<I", ring, 8, 2), "version 2"),
        (lambda ring: struct.pack_into(">I", ring, 12, 0x01020304), "byte order"),
        (_word(16, 2**40), "should have"),
        (_word(48, 12345), "another owner"),
        (_word(MOVING_OFFSET, 9), "state is 9"),
        (lambda ring: struct.pack_into("<I", ring, 64, 0), "0 regions"),
        (lambda ring: struct.pack_into("<I", ring, 64, 17), "17 regions"),
        (lambda ring: struct.pack_into("<I", ring, 64, 2), "do not fill"),
        (_region_word(0, 0, 2**60), "geometry of its region 0"),
        (_region_word(1, 1, 0), "geometry of its region 1"),
        (_region_word(1, 2, 2**63), "geometry of its region 1"),
        (_region_word(2, 3, 2**63), "geometry of its region 2"),
        (_region_word(2, 3, 100), "geometry of its region 2"),
        (lambda ring: ring.__delitem__(slice(100, None)), "header page"),
        (lambda ring: ring.clear(), "header page"),
        (lambda ring: ring.extend(bytes(4096)), "should have"),
    ],
)
def test_every_forged_claim_of_the_header_is_refused(
    directory: Path, forge: Callable[[bytearray], None], sentence: str
) -> None:
    """The reader believes nothing it has not compared with the file."""
    ring = a_ring(directory)
    forge(ring)
    path = directory / "forged.ring"
    path.write_bytes(ring)
    with pytest.raises(RingInvalid, match=sentence):
        RingReader(path)


def test_a_forged_head_costs_one_turn_of_the_index(directory: Path) -> None:
    """A claim of 2**64 records ends after the slots that exist."""
    ring = a_ring(directory)
    struct.pack_into("<QQ", ring, HEADS_OFFSET + 16 * FRAMES, 2**64 - 1, 2**64 - 1)
    path = directory / "forged.ring"
    path.write_bytes(ring)
    with RingReader(path) as reader:
        scan = reader.scan(FRAMES)
        assert list(scan) == [] and scan.lost == 2**64 - 1


def test_a_slot_that_points_outside_its_region_is_not_delivered(directory: Path) -> None:
    """Nor can such a record be read, wherever it came from."""
    ring = make_ring(directory / "a.ring")
    write(ring, FRAMES, b"x" * 100)
    write(ring, FRAMES, b"y" * 100)
    with RingReader(ring.path) as reader:
        first, _ = reader.scan(FRAMES)
        layout = reader.header.regions[FRAMES]
        with ring.path.open("rb+") as file:
            file.seek(layout.index_offset + SLOT_BYTES + 8)
            file.write(struct.pack("<Q", layout.data_bytes - 99))
        scan = reader.scan(FRAMES)
        assert [record.number for record in scan] == [2] and scan.lost == 1
        with pytest.raises(RingInvalid, match="within its region"):
            reader.read(type(first)(FRAMES, 1, 1, 0, layout.data_bytes - 99, 100))


def test_control_characters_of_a_foreign_ring_never_reach_a_terminal(directory: Path) -> None:
    """The service is a claim and is shown to people."""
    ring = a_ring(directory)
    service = ring.index(b"tests")
    ring[service : service + 11] = b"\x1b[31m\xff\nevil"
    path = directory / "forged.ring"
    path.write_bytes(ring)
    with RingReader(path) as reader:
        assert reader.header.identity.service == "[31mevil"


def test_a_sparse_giant_is_refused(directory: Path) -> None:
    """Its claim and its size agree, and still nobody reads it."""
    ring = a_ring(directory)
    struct.pack_into("<Q", ring, 16, 2**41)
    path = directory / "giant.ring"
    path.write_bytes(ring)
    with path.open("rb+") as file:
        file.truncate(2**41)
    with pytest.raises((RingInvalid, RingUnavailable), match="more than"):
        RingReader(path)
