"""Records small frames with manual triggers, and says how its private memory went: ``SINK RING FRAMES INCIDENTS``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from recorder import FlightRecorder

#: After so many frames everything that is made once has been made.
WARM_FRAMES = 5_000
#: Points of the memory curve.
POINTS = 20


def private_bytes() -> int:
    """Return this process's anonymous memory: the mapped ring is shared memory and does not count in it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def sealer_bytes(directory: Path) -> int:
    """Return the resident memory of the sealer that serves a ring directory."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if b"recorder.sealer" in command and str(directory).encode() in command:
                pages = int((entry / "statm").read_text().split()[1])
                return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def soak(sink: str, ring: str, frames: int, incidents: int) -> dict[str, object]:
    """Record; return the figures."""
    image = np.zeros((16, 16, 3), np.uint8)
    recorder = FlightRecorder(
        sink=sink,
        ring=ring,
        max_bytes=16 * 2**20,
        overhead_budget=1.0,
        pre_frames=4,
        post_frames=1,
        post_seconds=0.02,
        max_incidents_per_hour=1_000,
        max_incidents_per_day=1_000,
        sink_options={"max_total_bytes": 32 * 2**20},
    )
    every = max(1, frames // incidents)
    start, peak, sealer_peak = 0, 0, 0
    curve: list[dict[str, int]] = []
    directory = Path(ring).parent
    for number in range(frames + WARM_FRAMES):
        if number == WARM_FRAMES:
            start = private_bytes()
        with recorder.frame(image=image, camera=f"c{number % 3}", number=number) as frame:
            frame.output = {"answer": number}
        if number > WARM_FRAMES and number % every == 0:
            recorder.trigger("soak").wait(120)
            host, sealer = private_bytes(), sealer_bytes(directory)
            peak, sealer_peak = max(peak, host), max(sealer_peak, sealer)
            if number // every % max(1, incidents // POINTS) == 0:
                curve.append({"frame": number, "host_bytes": host, "sealer_bytes": sealer})
    recorder.flush(120)
    stats = recorder.stats()
    recorder.close()
    return {
        "frames": stats.frames_recorded,
        "sealed": stats.incidents_sealed,
        "suppressed": stats.incidents_suppressed,
        "lost": stats.frames_lost,
        "errors": stats.errors,
        "start_bytes": start,
        "grown_bytes": max(peak, private_bytes()) - start,
        "sealer_peak_bytes": sealer_peak,
        "curve": curve,
    }


if __name__ == "__main__":
    print(json.dumps(soak(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
