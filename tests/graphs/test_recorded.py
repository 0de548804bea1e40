"""From the live model to the verdict: one stored graph for every recorded shape, where the model allows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from recorder import FlightRecorder
from recorder.bundle import Bundle
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level, ReplayResult
from tests.graphs.networks import Padded
from tests.models.networks import seeded
from tests.waiting import WAIT_SECONDS

#: Heights divisible by four and others are two branches of the model; more of the first kind than graphs are asked for.
HEIGHTS = (16, 20, *range(24, 24 + 4 * 16, 4), 17, 18, 19)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of calls of many shapes, the model's graphs beside it."""
    generator = torch.Generator().manual_seed(1)
    sink = tmp_path_factory.mktemp("sink")
    with FlightRecorder(sink=str(sink), max_bytes=2**26, pre_frames=len(HEIGHTS)) as recorder:
        model = recorder.attach(seeded(Padded), name="watched")
        with torch.no_grad():
            for height in sorted(HEIGHTS, key=lambda height: height % 4 == 0):
                model(torch.rand((2, 3, height, 12), generator=generator))
        sealed = recorder.trigger("look").wait(120).path
    assert sealed is not None
    return Path(sealed)


def replayed(path: Path) -> ReplayResult:
    with Bundle.open(path) as bundle:
        return replay_bundle(bundle, ReplayOptions(bundle_path=path, repeat=1))


def test_few_graphs_serve_every_recorded_shape(path: Path) -> None:
    with Bundle.open(path) as bundle:
        [model] = bundle.manifest.models
        assert len(bundle.manifest.calls) == len(HEIGHTS)
    assert model.problems == () and len({graph.digest for graph in model.graphs}) == 3
    result = replayed(path)
    assert result.verdict is Level.BIT_EXACT, [(frame.level, frame.reason) for frame in result.frames]


def test_a_shape_that_no_graph_serves_asks_for_the_code(path: Path) -> None:
    """Without the graph that left sizes open, the others serve their own shapes alone."""
    with Bundle.open(path) as bundle:
        general = {graph.digest for graph in bundle.manifest.models[0].graphs if graph.form is not None}
    store = path.parent / "models" if (path.parent / "models").is_dir() else next(path.parents[2].rglob("models"))
    hidden = [store / f"{digest}.graph.json" for digest in general]
    for file in hidden:
        file.rename(file.with_suffix(".away"))
    result = replayed(path)
    for file in hidden:
        file.with_suffix(".away").rename(file)
    levels = [frame.level for frame in result.frames]
    assert levels.count(Level.BIT_EXACT) == 1 and result.exit_code == 3
    assert any("name the model store" in frame.reason for frame in result.frames)


class Scaled(nn.Module):
    """Takes a plain number, for each value of which a graph is another one."""

    def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:
        return x * factor


def test_more_kinds_of_inputs_than_graphs_serve_ask_for_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle says so plainly, and so does the replay of each call that has no graph, with the remedy."""
    monkeypatch.setattr("recorder.identify.MAX_GRAPHS", 1)
    with FlightRecorder(sink=str(tmp_path), max_bytes=2**24, overhead_budget=1) as recorder:
        model = recorder.attach(Scaled(), name="scaled")
        for rows, factor in ((1, 0.5), (2, 1.5)):
            model(torch.ones(rows, 4), factor)
        sealed = recorder.trigger("look").wait(WAIT_SECONDS).path
    assert sealed is not None
    with Bundle.open(Path(sealed)) as bundle:
        [recorded] = bundle.manifest.models
    assert len(recorded.graphs) == 1
    assert [problem for problem in recorded.problems if "more kinds of inputs than 1 graphs serve" in problem]
    served, unserved = replayed(Path(sealed)).frames
    assert served.level is Level.BIT_EXACT
    assert unserved.level is Level.NOT_REPLAYABLE and "--model pkg.mod:factory" in unserved.reason
    assert "its graphs serve calls with other shapes or arguments" in unserved.reason, unserved.reason
