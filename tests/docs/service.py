"""A small service, recorded for the pages: `python service.py` leaves an incident of frames 1 to 12 in incidents/."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recorder import FlightRecorder, triggers


def build() -> torch.nn.Module:
    """The model: three classes by how bright the image is; of a dark one it is not sure."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 3, 2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(3, 3),
    )
    with torch.no_grad():
        for each in (model[0], model[4]):
            each.weight.fill_(0.04)
            each.bias.zero_()
        model[4].weight.copy_(torch.diag(torch.tensor([20.0, 5.0, 0.0])))
    return model.eval()


def answer(model: torch.nn.Module, image: Any) -> dict[str, Any]:
    """What the service says of an image, HWC uint8."""
    with torch.inference_mode():
        scores = model(torch.from_numpy(image).permute(2, 0, 1)[None] / 255).softmax(1)[0]
    return {"label": int(scores.argmax()), "confidence": float(scores.max())}


def predict(image: Any) -> dict[str, Any]:
    """The service, from the image."""
    return answer(build(), image)


def main() -> None:
    """Record twelve frames; the lamp fails before the eighth."""
    with FlightRecorder(
        sink="incidents/",
        ring="rings/detector.ring",
        triggers=[triggers.low_confidence(below=0.6)],
        max_bytes=2**25,
        overhead_budget=1,
    ) as recorder:
        model = recorder.attach(build(), name="net")
        for number in range(1, 13):
            image = np.random.default_rng(number).integers(0, 256 if number < 8 else 9, (64, 64, 3), dtype=np.uint8)
            about = {"patient": 4711} if number == 2 else {"ground_truth": 0, "consent": True}
            faces = [[8, 8, 40, 40]]
            with recorder.frame(image=image, camera="line-3", operator="ann", faces=faces, **about) as frame:
                frame.output = answer(model, image)
        recorder.flush(timeout=60)
        Path("left").mkdir(mode=0o700)
        shutil.copy("rings/detector.ring", "left")  # what it would leave if it died now


if __name__ == "__main__":
    main()
