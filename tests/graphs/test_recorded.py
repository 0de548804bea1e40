"""From the live model to the verdict: one stored graph for every recorded shape, where the model allows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recorder import FlightRecorder
from recorder.bundle import Bundle
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level, ReplayResult
from tests.graphs.networks import Padded
from tests.models.networks import seeded

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
