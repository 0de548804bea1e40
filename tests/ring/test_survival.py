"""Four threads record while another process reads, or until they are killed in the middle of it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorder.ring import EVENTS, FRAMES, RingReader, RingState, is_alive
from tests.ring.recording_child import ENTRIES, ENTRY, LARGEST_BYTES
from tests.ring.rings import self_checking
from tests.waiting import wait_for

THREADS = 4
KILLS = 25


@contextmanager
def recording(directory: Path, records: int) -> Iterator[subprocess.Popen[bytes]]:
    """A recording process whose ring is there; dead afterwards."""
    log = directory / "log"
    log.write_bytes(bytes(THREADS * ENTRIES * ENTRY.size))
    ring = directory / "a.ring"
    command = [sys.executable, "-m", "tests.ring.recording_child", str(ring), str(log), str(THREADS), str(records)]
    with subprocess.Popen(command) as child:
        try:
            while not ring.exists():
                assert child.poll() is None
                time.sleep(0.001)
            yield child
        finally:
            child.kill()


def test_a_reader_follows_four_writers_and_meets_no_torn_record(directory: Path) -> None:
    """Every record delivered is intact and in order; what was missed is counted."""
    delivered = {EVENTS: 0, FRAMES: 0}
    after = {EVENTS: 0, FRAMES: 0}
    missed = 0
    with recording(directory, records=2500) as child, RingReader(directory / "a.ring") as reader:
        assert is_alive(reader.header) is True
        running = True
        while running:
            running = child.poll() is None
            for region in delivered:
                scan = reader.scan(region, after[region])
                for record in scan:
                    data = reader.read(record)
                    if data is None:
                        missed += 1
                        continue
                    assert data == self_checking(record.key, record.size_bytes)
                    delivered[region] += 1
                missed += scan.lost
                after[region] = scan.after
        assert child.returncode == 0
        assert reader.refresh().state is RingState.CLOSED and is_alive(reader.header) is False
    assert sum(after.values()) == THREADS * 2500 == sum(delivered.values()) + missed
    assert delivered[FRAMES] > 50 and delivered[EVENTS] > 5


def committed_before_death(log: Path) -> dict[int, dict[int, int]]:
    """Reserved bytes by number, of every record whose commit had returned, for each region."""
    found: dict[int, dict[int, int]] = {EVENTS: {}, FRAMES: {}}
    for number, size_bytes, region in ENTRY.iter_unpack(log.read_bytes()):
        if number:
            found[region][number] = size_bytes
    return found


def survivors(reader: RingReader, region: int, sizes: dict[int, int]) -> set[int]:
    """Numbers that must still be in the ring, whatever its wrapping and the records in flight may have taken."""
    layout = reader.header.regions[region]
    last, _ = reader.head(region)
    last = max(last, *sizes, 0)
    taken = 64 + LARGEST_BYTES  # skipped at a wrap
    must: set[int] = set()
    for number in range(last, max(0, last - layout.slot_count + THREADS), -1):
        taken += -(-sizes.get(number, LARGEST_BYTES) // 64) * 64
        if taken + THREADS * (LARGEST_BYTES + 64) > layout.data_bytes:
            break
        if number in sizes:
            must.add(number)
    return must


def kill_and_read(directory: Path, seconds: float, at_work: bool = False) -> int:
    """Kill a recording process a while after its first record, or after its ring is there; check all that it left.

    Returns:
        How many records that were.
    """
    with recording(directory, records=0) as child:
        if at_work:
            wait_for(lambda: any(committed_before_death(directory / "log").values()))
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
    delivered = 0
    committed = committed_before_death(directory / "log")
    with RingReader(directory / "a.ring") as reader:
        assert is_alive(reader.header) is False and reader.header.state is RingState.LIVE
        for region, sizes in committed.items():
            scan = reader.scan(region, skip_pending=True)
            found = set()
            for record in scan:
                assert reader.read(record) == self_checking(record.key, record.size_bytes)
                found.add(record.number)
            assert scan.pending <= THREADS
            assert survivors(reader, region, sizes) <= found
            delivered += len(found)
    (directory / "a.ring").unlink()
    return delivered


def test_every_record_committed_before_a_kill_is_recovered_and_none_is_torn(directory: Path) -> None:
    """A number of kills at random moments."""
    chance = random.Random()
    delivered = [kill_and_read(directory, chance.uniform(0.0, 0.08), number % 2 == 0) for number in range(KILLS)]
    assert sum(delivered) > KILLS
    assert [entry.name for entry in directory.iterdir()] == ["log"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_kills(directory: Path) -> None:
    """The same, for as long as it takes to believe it."""
    chance = random.Random()
    delivered = sum(kill_and_read(directory, chance.uniform(0.0, 0.3)) for _ in range(1000))
    assert delivered > 1000
