"""One stored graph serves every recorded shape, bit for bit, where the model allows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from examples.mtcnn import PNet
from recorder import FlightRecorder
from recorder.bundle import Bundle
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level, ReplayResult
from tests.models.networks import ResNet, ViT, seeded


def record(model: nn.Module, shapes: Sequence[tuple[int, ...]], sink: Path) -> Path:
    """A bundle of one call of each shape, the model's graphs beside it."""
    generator = torch.Generator().manual_seed(1)
    with FlightRecorder(sink=str(sink), max_bytes=2**26, pre_frames=len(shapes)) as recorder:
        recorder.attach(model, name="watched")
        with torch.no_grad():
            for shape in shapes:
                model(torch.rand(shape, generator=generator))
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    return Path(path)


def replayed(path: Path) -> ReplayResult:
    with Bundle.open(path) as bundle:
        return replay_bundle(bundle, ReplayOptions(bundle_path=path, repeat=1))


def test_p(tmp_path):
    path = record(seeded(PNet), [(1, 3, 12 + 7 * k, 14 + 5 * k) for k in range(20)], tmp_path)
    with Bundle.open(path) as bundle:
        for g in bundle.manifest.models[0].graphs: print(g)
        print(bundle.manifest.models[0].problems)
    result = replayed(path)
    print([f.level for f in result.frames], [f.reason for f in result.frames])
    assert 0
