"""The payload all measurements share, and where they put their files."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["IMAGE_SHAPE", "image", "model_input", "model_output", "natural_frames", "pinned", "scratch", "use_examples"]

IMAGE_SHAPE = (720, 1280, 3)


def natural_frames(count: int) -> Iterator[np.ndarray[Any, Any]]:
    """Yield 720p frames: photographs tiled to size, shifted frame by frame, with a camera's noise."""
    import skimage.data

    pictures = [skimage.data.coffee(), skimage.data.chelsea(), skimage.data.astronaut()]
    height, width, _ = IMAGE_SHAPE
    generator = np.random.default_rng(0)
    for number in range(count):
        picture = pictures[number * len(pictures) // count]
        repeats = (-(-height // picture.shape[0]), -(-width // picture.shape[1]) + 1, 1)
        tiled = np.roll(np.tile(picture, repeats), 3 * number, axis=1)[:height, :width]
        noise = generator.normal(0, 1.5, IMAGE_SHAPE)
        yield np.clip(tiled + noise, 0, 255).astype(np.uint8)


def image() -> np.ndarray[Any, Any]:
    """Return one 720p frame, 2.8 MB."""
    return next(natural_frames(1))


def model_input() -> torch.Tensor:
    """Return a classifier's input, 1 x 3 x 224 x 224 float32, 0.6 MB."""
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def model_output() -> torch.Tensor:
    """Return a classifier's output, 1 x 1000 float32."""
    return torch.rand(1, 1000, generator=torch.Generator().manual_seed(1))


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory in memory where there is one, and remove it."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="flight-recorder-bench-", dir=memory))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def pinned() -> Iterator[None]:
    """Keep the calling thread on one core; threads and processes that run already stay where they are."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def use_examples() -> None:
    """Make ``examples/`` importable: MobileNetV2 and its weights are there."""
    path = str(Path(__file__).parent.parent / "examples")
    if path not in sys.path:
        sys.path.insert(0, path)
