"""Where the state before a call is not there, a replay says so: another answer from another state is no divergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recorder import FlightRecorder
from recorder.bundle import Bundle
from replay.load import UserConfig
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level, ReplayResult
from tests.stateful import networks, service


def replayed(path: Path, **options: Any) -> ReplayResult:
    with Bundle.open(path) as bundle:
        return replay_bundle(bundle, ReplayOptions(bundle_path=path, config=UserConfig(), repeat=1, **options))


@pytest.mark.parametrize("state", [("bank",), None])
def test_a_state_that_is_too_large_is_never_a_divergence(state: Any, tmp_path: Path) -> None:
    """Named, and found: each call without it is counted, and refused with the remedy."""
    with FlightRecorder(sink=tmp_path, pre_frames=3, max_bytes=2**25, overhead_budget=1) as recorder:
        model = recorder.attach(networks.large(), name="large", state=state, store=False)
        with torch.no_grad():
            if state is None:
                with pytest.warns(RuntimeWarning, match="its state"):
                    for number in range(9):
                        model(torch.full((1, 4), float(number)))
            for number in range(4):
                model(torch.full((1, 4), float(number)))
        path = recorder.trigger("look").wait(120).path
        assert recorder.stats().frames_lost["state-too-large"] >= 4
    assert path is not None
    with Bundle.open(path) as bundle:
        assert {model.state for model in bundle.manifest.models} == {("bank",)}
        assert all(call.state is None and call.output is not None for call in bundle.manifest.calls)
    for factory in ((), ("tests.stateful.networks:large",)):
        result = replayed(Path(path), model=factory)
        assert (result.verdict, result.exit_code) == (Level.NOT_REPLAYABLE, 3)
        assert {frame.level for frame in result.frames} == {Level.NOT_REPLAYABLE}
        assert "state takes at most 4 MiB" in result.frames[0].reason


def test_a_pipeline_that_begins_without_the_state_proves_nothing(tmp_path: Path) -> None:
    """Its model has not seen what came before the window; the recorded calls themselves replay bit for bit."""
    predict = service.Service()
    generator = np.random.default_rng(3)
    with FlightRecorder(sink=tmp_path, pre_frames=3, max_bytes=2**24, overhead_budget=1) as recorder:
        recorder.attach(predict.model, name="stateful", state=("hidden",), store=False)
        for _ in range(8):
            image = generator.integers(0, 255, (4, 4), dtype=np.uint8)
            with recorder.frame(image=image) as frame:
                frame.output = -1 - predict(image)  # what no pipeline can answer
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    options = {"model": ("tests.stateful.networks:buffer",)}
    assert replayed(Path(path), **options).verdict is Level.BIT_EXACT
    result = replayed(Path(path), pipeline="tests.stateful.service:predict", **options)
    assert (result.verdict, result.exit_code) == (Level.INCONCLUSIVE, 3), result.conclusion
    assert any("begins without what the recorded one had" in frame.reason for frame in result.frames)
