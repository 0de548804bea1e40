"""What a recorder leaves when its process dies: its ring, its track, and what the sealer said and did.

``python -m tests.attacks.leftovers DIRECTORY`` records for a moment and copies its files while they are in use, as a
kill would leave them; the process that it names has ended when this one has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

__all__ = ["RING", "leave"]

RING = "host.ring"

_ROOT = Path(__file__).parents[2]


def leave(directory: Path) -> Path:
    """Have a process of its own record, and return the path of the ring it left; the other files are beside it."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.attacks.leftovers", str(directory)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    return directory / "left" / RING


def _record(directory: Path) -> None:
    from recorder import FlightRecorder

    live, left = directory / "live", directory / "left"
    live.mkdir(parents=True)
    left.mkdir()
    with FlightRecorder(
        sink=directory / "incidents",
        ring=live / RING,
        max_bytes=2**21,
        history_seconds=60,
        overhead_budget=1.0,
        triggers=[],
    ) as recorder:
        chance = np.random.default_rng(0)

        @recorder.watch
        def predict(batch: np.ndarray, mode: str = "fast") -> dict[str, object]:
            if mode == "broken":
                raise ValueError("the lamp is off")
            return {"scores": batch.mean(axis=(1, 2)), "mode": mode, "pair": (1, None, 2.5)}

        for number in range(8):
            image = chance.integers(0, 256, (12, 16, 3), np.uint8)
            with recorder.frame(image=image, camera=f"line-{number % 2}", number=number) as frame:
                frame.output = predict(image[None].astype(np.float32))
        try:
            with recorder.frame(image=image, camera="line-0"):
                predict(image[None], mode="broken")
        except ValueError:
            recorder.trigger("looks odd").wait(120)
        recorder.flush(120)
        for path in live.glob(RING + "*"):
            if path.is_file():
                shutil.copy(path, left / path.name)


if __name__ == "__main__":
    _record(Path(sys.argv[1]))
