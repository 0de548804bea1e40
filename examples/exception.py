"""A service that crashes on one image: the exception reaches the caller, and the bundle holds what caused it.

Run it: ``python examples/exception.py``. Replay raises the same exception from the recorded input.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch

from recorder import FlightRecorder


class PatchMean(torch.nn.Module):
    """Averages the image over a grid of 32-pixel patches; knows nothing of images whose sides are no multiple."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return one mean per patch and channel of an H x W x C float32 image."""
        height, width, channels = image.shape
        return image.reshape(height // 32, 32, width // 32, 32, channels).mean((1, 3))


def factory() -> PatchMean:
    """Build the model; `replay --model exception:factory` calls it."""
    return PatchMean()


def main(sink: Path) -> int:
    """Serve two good images and a bad one; return what `replay` says of the incident."""
    photographs = [skimage.data.astronaut(), skimage.data.rocket()[:416], skimage.data.chelsea()]
    # A service leaves these alone: this may be run twice within the hour.
    with FlightRecorder(sink=sink, cooldown_seconds=10, dedupe_seconds=10) as recorder:
        # By `__mp_main__` or `__main__` nobody could import the class later: name the factory.
        model = recorder.attach(PatchMean(), factory="exception:factory")
        for image in photographs:
            try:
                with recorder.frame(image=image, shape=list(image.shape)):
                    model(torch.from_numpy(image.astype(np.float32)))
            except RuntimeError as error:
                print(f"the service saw: {error}")
        recorder.flush(timeout=120)

    bundle = max(sink.glob("*.zst"))
    command = ["-m", "replay", str(bundle), "--model", "exception:factory"]
    print(f"\n$ replay {' '.join(command[2:])}", flush=True)
    return subprocess.run([sys.executable, *command], cwd=Path(__file__).parent, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "incidents").absolute()))
