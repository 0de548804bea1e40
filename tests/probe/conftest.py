"""Recorded incidents of honest models and of their twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from recorder import FlightRecorder
from tests.probe import networks


def record(directory: Path, model: nn.Module, pictures: torch.Tensor, truth: torch.Tensor | None = None) -> Path:
    """Record one frame a picture and seal them."""
    with FlightRecorder(sink=str(directory), pre_frames=len(pictures), max_bytes=2**25, overhead_budget=1) as recorder:
        attached = recorder.attach(model, name="model")
        with torch.no_grad():
            for index, picture in enumerate(pictures):
                known = {} if truth is None else {"ground_truth": int(truth[index])}
                with recorder.frame(**known):
                    attached(picture[None])
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    return Path(path)


@pytest.fixture(scope="session")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle of "honest", "shortcut", "prior" or "segmenter", made once."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            directory = tmp_path_factory.mktemp(kind)
            if kind in ("honest", "shortcut"):
                watermark = "class" if kind == "shortcut" else "none"
                pictures, classes = networks.digits(24, 7, watermark)
                made[kind] = record(directory, networks.trained(watermark), pictures, classes)
            else:
                model = networks.PriorOnly() if kind == "prior" else networks.Segmenter()
                made[kind] = record(directory, model, networks.scenes(6, 3))
        return made[kind]

    return make
