"""Compiled models are recorded under the names of the eager ones, and replayed eagerly, which replay says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.models import ModelStore, tensors_of_module
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level
from tests.graphs.networks import compiled, eager


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two compiled models: what torch.compile returned, and one that was compiled in place."""
    with FlightRecorder(sink=str(tmp_path_factory.mktemp("sink")), max_bytes=2**25, overhead_budget=1) as recorder:
        in_place = eager()
        in_place.compile(backend="aot_eager")
        models = recorder.attach(compiled(), name="wrapped"), recorder.attach(in_place, name="in place")
        with torch.no_grad():
            for model in models:
                model(torch.rand(2, 3, 8, 8))
        sealed = recorder.trigger("look").wait(120).path
    torch._dynamo.reset()
    assert sealed is not None
    return Path(sealed)


def test_the_weights_are_those_of_the_eager_model(path: Path, tmp_path: Path) -> None:
    """By name and digest, as a model store filled at deployment has them."""
    expected = ModelStore(tmp_path).put_weights(tensors_of_module(eager())).digest
    with Bundle.open(path) as bundle:
        for model in bundle.manifest.models:
            assert model.compiled and model.type.endswith("Small") and model.graphs
            assert model.weights is not None and model.weights.digest == expected


@pytest.mark.parametrize("factory", [None, "eager", "compiled"])
def test_it_is_replayed_eagerly(path: Path, factory: str | None) -> None:
    """From its graph, or by code that builds it eager or compiled; what was not re-run is said."""
    model = () if factory is None else (f"tests.graphs.networks:{factory}",)
    with Bundle.open(path) as bundle:
        result = replay_bundle(bundle, ReplayOptions(bundle_path=path, repeat=1, model=model))
    assert result.verdict in (Level.BIT_EXACT, Level.WITHIN_TOLERANCE), [frame.reason for frame in result.frames]
    assert any("compiled by torch.compile, here it runs eagerly" in each for each in result.not_restored)
