"""The examples' pretrained models: what they see, and that the store keeps their bits."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from skimage import data

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.models import ModelStore
from replay.commands.model import model as model_group
from replay.graph.document import load_graph
from replay.load import UserConfig
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level
from replay.worker.weights import load_weights
from tests.models.support import same_bits
from tests.waiting import WAIT_SECONDS

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module", autouse=True)
def examples_importable() -> Iterator[None]:
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(model_group, ["add", *arguments])


@pytest.mark.parametrize(("photograph", "label"), [("chelsea", 285), ("coffee", 967)])
def test_mobilenet_knows_the_photographs(photograph: str, label: int) -> None:
    """An Egyptian cat and an espresso."""
    import mobilenet

    with torch.no_grad():
        assert int(mobilenet.load()(mobilenet.preprocess(getattr(data, photograph)())).argmax()) == label


def test_mobilenet_added_at_deployment_replays_without_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`replay model add`, then graph and weights from the store alone: bit for bit, on a photograph."""
    import mobilenet

    monkeypatch.chdir(EXAMPLES)
    result = run("mobilenet:factory", "--to", str(tmp_path), "--input", "1x3x224x224", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["problems"] == []
    store = ModelStore(tmp_path)
    weights_digest, graph = answer["weights"]["digest"], answer["graph"]
    assert store.verify(weights_digest, "weights") and store.verify(graph["digest"], "graph")
    remembered = store.remembered_graph(weights_digest, graph["signature"])
    assert remembered is not None and remembered.digest == graph["digest"]
    weights = load_weights(store.path_of(weights_digest, "weights"), weights_digest, {})
    loaded = load_graph(store.path_of(graph["digest"], "graph").read_bytes(), weights)
    image = mobilenet.preprocess(data.chelsea())
    with torch.no_grad():
        assert same_bits(loaded(image), mobilenet.load()(image))


def test_mtcnn_finds_the_face() -> None:
    """One astronaut, no cat."""
    import mtcnn

    networks = mtcnn.factory()
    faces = mtcnn.detect(data.astronaut(), networks)
    assert len(faces) == 1 and faces[0, 4] > 0.95
    left, top, right, bottom = faces[0, :4]
    assert 150 < left < 200 < 250 < right < 300 and 50 < top < 90 < 150 < bottom < 200
    assert mtcnn.detect(data.chelsea(), networks).shape == (0, 5)


def test_an_incident_of_mtcnn_replays_from_its_stored_graphs(tmp_path: Path) -> None:
    """Three attached networks on a face: every call bit for bit, without code, of few graphs for many sizes."""
    import mtcnn

    with FlightRecorder(sink=tmp_path, pre_frames=8, max_bytes=2**26, overhead_budget=1) as recorder:
        networks = {name: recorder.attach(network, name=name) for name, network in mtcnn.factory().items()}
        image = np.ascontiguousarray(data.astronaut()[40:200, 140:300])
        with recorder.frame(image=image) as frame:
            faces = mtcnn.detect(image, networks)
            frame.output = faces.tolist()
        assert len(faces) == 1
        assert recorder.flush(WAIT_SECONDS)
        sealed = recorder.trigger("look").wait(WAIT_SECONDS).path
    assert sealed is not None
    path = Path(sealed)
    with Bundle.open(path) as bundle:
        models = bundle.manifest.models
        assert [model.name for model in models] == ["pnet", "rnet", "onet"]
        assert not any(model.problems for model in models)
        [proposals] = [model for model in models if model.name == "pnet"]
        served = {graph.signature for graph in proposals.graphs}
        assert len(served) > len({graph.digest for graph in proposals.graphs}), "one graph serves several scales"
        assert len(bundle.manifest.calls) >= 6
        options = ReplayOptions(bundle_path=path, config=UserConfig(), repeat=1)
        result = replay_bundle(bundle, options)
    assert (result.verdict, result.exit_code) == (Level.BIT_EXACT, 0), result.conclusion
    assert {frame.level for frame in result.frames} == {Level.BIT_EXACT}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["mobilenet.factory"], 2, "package.module:function"),
        (["mobilenet:factory", "--input", "1x3xHxW"], 2, "1x3x224x224:float32"),
        (["mobilenet:factory", "--input", "1x3:object"], 2, "1x3x224x224:float32"),
        (["no_such_module:factory"], 1, "could not be run (ModuleNotFoundError"),
        (["json:loads"], 1, "could not be run (TypeError"),
        (["collections:OrderedDict"], 1, "returned a OrderedDict and not a torch module"),
        (["torch.nn:ReLU", "--input", "2:int64"], 0, ""),
    ],
)
def test_model_add_says_what_went_wrong(arguments: list[str], code: int, sentence: str, tmp_path: Path) -> None:
    """In a sentence, without a traceback."""
    result = run(*arguments, "--to", str(tmp_path / "store"))
    assert result.exit_code == code, result.output
    assert sentence in result.output and "Traceback" not in result.output
