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

from recorder.models import ModelStore
from replay.commands.model import model as model_group
from replay.graph.document import load_graph
from replay.worker.weights import load_weights
from tests.models.support import exported, same_bits, stored

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


def test_mtcnn_detects_the_same_through_stored_graphs(tmp_path: Path) -> None:
    """Three networks, one graph for each shape they were called with."""
    import mtcnn

    networks = mtcnn.factory()
    called: list[bool] = []

    def through_the_store(name: str) -> Any:
        def call(batch: torch.Tensor) -> Any:
            graph = stored(networks[name], exported(networks[name], (batch,), {}), tmp_path)
            answer = graph(batch)
            called.append(same_bits(answer, networks[name](batch)))
            return answer

        return call

    image = np.ascontiguousarray(data.astronaut()[40:200, 140:300])
    faces = mtcnn.detect(image, {name: through_the_store(name) for name in networks})
    assert len(called) >= 5 and all(called)
    assert np.array_equal(faces, mtcnn.detect(image, networks)) and len(faces) == 1


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
