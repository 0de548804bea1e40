"""Eight threads fight over a ring that holds a handful of their records."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.ring import FRAMES, RingReader
from tests.ring.rings import make_ring, self_checking, write

THREADS = 8
ATTEMPTS = 200


@pytest.fixture(autouse=True)
def _hasty_switching() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def torn_records(reader: RingReader) -> list[int]:
    """Numbers of records that are delivered at this moment and are not what was written."""
    found = [(record, reader.read(record)) for record in reader.scan(FRAMES, skip_pending=True)]
    return [
        record.number
        for record, data in found
        if data is not None and data != self_checking(record.key, record.size_bytes)
    ]


def test_threads_that_overtake_each_other_tear_nothing_and_count_every_refusal(directory: Path) -> None:
    """Committed, shortened, abandoned and forgotten at random; nothing stays open, and the sums agree."""
    ring = make_ring(directory / "a.ring", frames=128 << 10)
    reader = RingReader(ring.path)
    outcomes: list[str] = []
    torn: list[int] = []

    def work(thread: int) -> None:
        chance = random.Random(thread)
        for attempt in range(ATTEMPTS):
            key, size_bytes = thread << 32 | attempt, chance.choice((24, 500, 9000, 20_000))
            reservation = ring.reserve(FRAMES, thread, key, size_bytes + 100)
            if reservation is None:
                outcomes.append("refused")
                continue
            time.sleep(0)  # a slow thread: others come round while it holds its range
            reservation.view[:size_bytes] = self_checking(key, size_bytes)
            time.sleep(0)
            outcome = chance.choice(("committed", "committed", "committed", "abandoned", "forgotten"))
            if outcome == "committed":
                assert ring.commit(reservation, size_bytes)
            elif outcome == "abandoned":
                ring.abandon(reservation)
            outcomes.append(outcome)
            if attempt % 8 == 0:
                torn.extend(torn_records(reader))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reader:
        last, _ = reader.head(FRAMES)
        write(ring, FRAMES, self_checking(7, 1000), key=7)
        final = reader.scan(FRAMES)
        found = [(record.key, reader.read(record)) for record in final]
    assert found[-1] == (7, self_checking(7, 1000))
    assert all(data is not None and data == self_checking(key, len(data)) for key, data in found)
    assert torn == []
    assert len(outcomes) == THREADS * ATTEMPTS
    assert last == len(outcomes) - outcomes.count("refused")
    assert sum(ring.losses.values()) == outcomes.count("refused")
    assert ring.open_reservations == final.pending == 0
