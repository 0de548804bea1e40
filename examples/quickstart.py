"""A classifier in production: the lamp over the line fails, confidence drops, an incident is sealed and replayed.

Run it: ``python examples/quickstart.py``. It leaves the bundle in ``incidents/``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mobilenet
import numpy as np
import skimage.data
import torch

from recorder import FlightRecorder, triggers

FRAMES = 24
LAMP_FAILS_AT = 12


def camera(number: int) -> np.ndarray:
    """Return what the camera sees: three photographs in turn; after the lamp failed, at a twentieth of the light."""
    photographs = (skimage.data.coffee, skimage.data.chelsea, lambda: np.dstack([skimage.data.camera()] * 3))
    image = photographs[number % 3]()
    return image if number < LAMP_FAILS_AT else image // 20


def main(sink: Path) -> int:
    """Serve the frames; return what `replay` says of the sealed incident."""
    with FlightRecorder(
        sink=sink,
        triggers=[triggers.exception(), triggers.non_finite(), triggers.low_confidence(below=0.6)],
        pre_frames=8,
        post_frames=4,
        cooldown_seconds=10,  # a service leaves these alone: this may be run twice within the hour
        dedupe_seconds=10,
        overhead_budget=1,  # nor this one: here frames come without a pause, on a machine that may be busy
    ) as recorder:
        model = recorder.attach(mobilenet.load(), factory="mobilenet:factory")

        for number in range(FRAMES):
            image = camera(number)
            with torch.inference_mode(), recorder.frame(image=image, camera="line-3", number=number) as frame:
                logits = model(mobilenet.preprocess(image))
                confidence, label = logits.softmax(1).max(1)
                frame.output = {"label": int(label), "confidence": float(confidence)}

        recorder.flush(timeout=120)  # production never waits; a script that ends does
        print(recorder.stats())

    bundle = max(sink.glob("*.zst"))
    print(f"\n$ replay {bundle}", flush=True)
    return subprocess.run([sys.executable, "-m", "replay", str(bundle)], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "incidents")))
