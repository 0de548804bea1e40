"""Bundles whose frames say all that can be exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame, Manifest
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import MappingValue, SequenceValue
from recorder.bundle.writer import BundleWriter
from tests.bundles import small_bundle, store_array

BOXES = np.asarray([[2, 3, 20, 30], [5, 5, 9, 9]], np.float32)
FOUND = {"boxes": BOXES, "scores": np.asarray([0.9, 0.2], np.float32), "labels": np.asarray([7, 1])}

Change = Callable[[Manifest, BundleWriter], Manifest]


def made(path: Path, change: Change, *, seed: int = 0, frames: int = 4, height: int = 48, width: int = 64) -> Path:
    """A bundle of frames of 64 x 48 pixels, changed."""
    path.parent.mkdir(exist_ok=True)
    plain = small_bundle(path.parent / f"plain-of-{path.name}", seed=seed, frames=frames, height=height, width=width)
    with Bundle.open(plain) as bundle:
        rewrite(bundle, path, operation="pack", transform=change)
    plain.unlink()
    return path


def mapping(writer: BundleWriter, found: dict[str, Any]) -> MappingValue:
    """A detector's answer to one picture."""
    return MappingValue(items=tuple((name, store_array(writer, array)) for name, array in found.items()))


def detected(writer: BundleWriter, manifest: Manifest, size: tuple[int, int], boxes: np.ndarray[Any, Any]) -> Manifest:
    """The first frame alone, whose model was given a picture of that width and height and found boxes, surest first."""
    scores = np.linspace(0.9, 0.6, len(boxes)).astype(np.float32)
    answer = mapping(writer, {"boxes": boxes, "scores": scores, "labels": np.arange(len(boxes))})
    given = store_array(writer, np.zeros((1, 3, size[1], size[0]), np.float32))
    call = replace(manifest.calls[0], args=SequenceValue(form="tuple", items=(given,)), output=answer)
    return replace(manifest, frames=(replace(manifest.frames[0], output=None),), calls=(call,))


def frames_of(path: Path) -> dict[int, Frame]:
    with Bundle.open(path) as bundle:
        return {frame.id: frame for frame in bundle.manifest.frames}


def pictures(path: Path) -> dict[int, Any]:
    """The first picture of each frame."""
    with Bundle.open(path) as bundle:
        return {frame.id: np.asarray(bundle.pixels(frame.images[0])) for frame in bundle.manifest.frames}


@pytest.fixture(scope="package")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames: a class each, boxes in the third, a mask in the fourth, metadata that wants to be a path."""

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        mask = np.zeros((1, 2, 48, 64), np.float32)
        mask[0, 1, 10:20, 30:50] = 5
        outputs = {3: mapping(writer, FOUND), 4: store_array(writer, mask)}
        frames = [replace(frame, output=outputs.get(frame.id, frame.output)) for frame in manifest.frames]
        frames[0] = replace(frames[0], metadata={**frames[0].metadata, "ground_truth": "../../etc/x"})
        frames[1] = replace(frames[1], stream="../\x1b[31mcam")
        return replace(manifest, frames=tuple(frames))

    return made(tmp_path_factory.mktemp("bundles") / "a.zst", change)
