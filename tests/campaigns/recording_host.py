"""A service that records with four threads for all it is worth: ``SINK RING LOG``. It is there to be killed.

Every thread writes frames whose image and metadata say which they are and, each time the frame's END was committed,
notes its id in the log: a mapped file, which survives the process as the ring does.
"""

from __future__ import annotations

import mmap
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recorder import FlightRecorder

THREADS = 4
#: Frames a thread may note; the ring below holds them all.
ENTRIES = 512
ENTRY = struct.Struct("<Q")
MAX_BYTES = 32 * 2**20


def picture(thread: int, number: int) -> NDArray[np.uint8]:
    """Return an image that tells which frame it belongs to, of a size that varies."""
    side = 8 + number % 40
    flat = np.arange(side * side * 3, dtype=np.uint32) * (thread + 3) + number * 7
    return (flat % 251).astype(np.uint8).reshape(side, side, 3)


def record_until_killed(sink: str, ring: str, log_path: Path) -> None:
    """Record until somebody puts an end to it."""
    with log_path.open("rb+") as file:
        log = mmap.mmap(file.fileno(), THREADS * ENTRIES * ENTRY.size)
    # A thousand deaths within an hour are the point here, and no crash loop to be sealed once.
    limits = {"cooldown_seconds": 0, "dedupe_seconds": 0, "max_incidents_per_hour": 10_000}
    recorder = FlightRecorder(
        sink=sink,
        ring=ring,
        max_bytes=MAX_BYTES,
        overhead_budget=1.0,
        triggers=[],
        max_incidents_per_day=10_000,
        **limits,
    )

    def work(thread: int) -> None:
        for number in range(ENTRIES):
            with recorder.frame(
                image=picture(thread, number), camera=f"c{thread}", thread=thread, number=number
            ) as frame:
                frame.output = {"answer": number}
            ENTRY.pack_into(log, (thread * ENTRIES + number) * ENTRY.size, frame.id)
            time.sleep(0.0005)

    print("recording", flush=True)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    time.sleep(600)


if __name__ == "__main__":
    record_until_killed(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
