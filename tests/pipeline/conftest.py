"""Incidents of the small service, recorded by a real recorder."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from replay.load import UserConfig
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import ReplayResult
from replay.whatif import parse_changes
from tests.pipeline import service

SERVICE = "tests.pipeline.service"


def picture(colour: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """48 x 40 pixels with structure, mostly of one colour."""
    rows, columns = np.mgrid[0:48, 0:40]
    noise = np.random.default_rng(seed).integers(0, 40, (48, 40, 3))
    pixels = noise + (30 * np.sin(rows / 5) + 30 * np.cos(columns / 7) + 60).astype(int)[..., None]
    pixels[..., colour] += 90
    return np.clip(pixels, 0, 255).astype(np.uint8)


def record(directory: Path, give: Callable[[np.ndarray[Any, Any]], Any], predict: Callable[[Any], Any]) -> Path:
    """Three frames, red, green and blue, through a service whose model is attached; return the bundle."""
    model = service.Colours().eval()
    with FlightRecorder(
        sink=directory, ring=directory / "ring" / "host.ring", max_bytes=16 * 2**20, post_seconds=0.2, overhead_budget=1
    ) as recorder:
        model = recorder.attach(model, name="colours")
        for colour, truth in ((0, "red"), (1, "green"), (2, "red")):
            image = picture(colour, colour)
            with recorder.frame(image=give(image), camera="line-3", ground_truth=truth) as frame:
                frame.output = service.answer(model, service.preprocess(image)) if predict is None else predict(image)
        recorder.trigger("asked for").wait(120)
    [bundle] = directory.glob("*.zst")
    return bundle


def encoded(image: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An incident whose images were given as arrays."""
    return record(tmp_path_factory.mktemp("arrays"), lambda image: image, None)


@pytest.fixture
def run() -> Callable[..., ReplayResult]:
    """Replay with a pipeline of the service."""

    def replay(
        path: Path, pipeline: str | None, *sets: str, weights: str | None = None, **options: Any
    ) -> ReplayResult:
        chosen = {
            "pipeline": f"{SERVICE}:{pipeline}" if pipeline else None,
            "changes": parse_changes(sets, weights),
            "bundle_path": path,
            "config": UserConfig(),
            "repeat": 1,
            **options,
        }
        with Bundle.open(path) as bundle:
            return replay_bundle(bundle, ReplayOptions(**chosen))

    return replay
