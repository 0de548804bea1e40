"""A process that records for all it is worth, for tests that read along or kill it: ``RING LOG THREADS RECORDS``.

Every thread writes self-checking records of mixed sizes and, each time after ``commit`` returned, notes number and size
in the log: a file of one part per thread, which survives the process as the ring does.
"""

from __future__ import annotations

import mmap
import random
import struct
import sys
import threading
from pathlib import Path

from recorder.ring import EVENTS, FRAMES
from tests.ring.rings import LEAST_BYTES, make_ring, self_checking

#: number, reserved bytes, region
ENTRY = struct.Struct("<QQQ")
#: The last so many commits of each thread; far more than the ring holds.
ENTRIES = 8192
FRAMES_BYTES = 1 << 20
EVENTS_BYTES = 32 << 10
LARGEST_BYTES = 40_000


def record_until_killed(ring_path: Path, log_path: Path, threads: int, records: int) -> None:
    """Write ``records`` a thread, 0 for no end."""
    ring = make_ring(ring_path, frames=FRAMES_BYTES, events=EVENTS_BYTES)
    with log_path.open("rb+") as file:
        log = mmap.mmap(file.fileno(), threads * ENTRIES * ENTRY.size)

    def work(thread: int) -> None:
        chance = random.Random(thread)
        done = 0
        while not records or done < records:
            size_bytes = chance.choice((LEAST_BYTES, 100, 1000, 7000, LARGEST_BYTES))
            region = FRAMES
            if size_bytes == 100 and chance.random() < 0.5:
                region = EVENTS
            key = thread << 32 | done
            reservation = ring.reserve(region, thread, key, size_bytes)
            if reservation is None:  # another thread still copies where the ring has come round to
                continue
            reservation.view[:] = self_checking(key, size_bytes)
            ring.commit(reservation)
            # The number last: an entry is complete once it is not the old one's.
            place = (thread * ENTRIES + done % ENTRIES) * ENTRY.size
            ENTRY.pack_into(log, place, 0, size_bytes, region)
            struct.pack_into("<Q", log, place, reservation.number)
            done += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ring.close()


if __name__ == "__main__":
    record_until_killed(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
