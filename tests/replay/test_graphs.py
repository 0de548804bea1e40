"""Models replayed without their code: from a stored graph, which has to prove itself."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import torch
from torch import nn

from recorder.bundle.manifest import Graph
from recorder.bundle.signature import call_signature
from recorder.export_child import export_document
from recorder.models import ModelStore, skeleton
from replay.verdict import Level
from tests.replay.bundles_of_calls import Recording, images
from tests.replay.models_for_tests import Classifier, classifier, raising


class _Doubled(Classifier):
    """Another model over the same weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def _store_graph(recording: Recording, module: nn.Module, *, named: bool = True) -> None:
    """Export a graph for the first recorded call, and name it in the manifest or leave that to the store."""
    args, kwargs = recording.calls[0]["args"][0], recording.calls[0]["kwargs"][0]
    document = export_document(skeleton(module), args, kwargs, {})
    store = ModelStore(recording.directory / "models")
    digest, size_bytes = store.put_graph(document)
    graph = Graph(signature=call_signature(args, kwargs), digest=digest, size_bytes=size_bytes)
    if named:
        recording.set_models(graphs=(graph,))
    else:
        store.remember_graph(recording.models[0].weights.digest, graph)


def test_a_stored_graph_gives_the_recorded_bits_without_the_models_code(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    with torch.inference_mode():
        for batch in images():
            model(batch)
    _store_graph(recording, classifier())
    path = recording.write()
    result = replayed(path, repeat=2)
    assert result.verdict is Level.BIT_EXACT, result
    elsewhere = recording.directory / "elsewhere"
    (recording.directory / "models").rename(elsewhere)
    assert replayed(path).exit_code == 3
    assert replayed(path, models=str(elsewhere)).verdict is Level.BIT_EXACT


def test_a_graph_stored_at_deployment_is_found_by_weights_and_signature(recording: Any, replayed: Any) -> None:
    recording.attach(classifier())(images(1)[0])
    _store_graph(recording, classifier(), named=False)
    assert replayed(recording.write()).verdict is Level.BIT_EXACT


def test_a_graph_that_reproduces_nothing_is_not_taken_for_the_model(recording: Any, replayed: Any) -> None:
    recording.attach(classifier())(images(1)[0])
    _store_graph(recording, _Doubled().eval())
    result = replayed(recording.write())
    assert result.verdict is Level.INCONCLUSIVE and result.exit_code == 3
    assert "has reproduced no recorded call" in result.frames[0].reason
    assert result.remedies == ("name the code that builds it: --model pkg.mod:factory",)


def test_an_exception_that_a_graph_cannot_raise_is_inconclusive(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    model(images(1)[0])
    model(images(1)[0])
    recording.calls[1]["exception"] = _an_exception(recording)
    _store_graph(recording, classifier())
    result = replayed(recording.write())
    assert [frame.level for frame in result.frames] == [Level.BIT_EXACT, Level.INCONCLUSIVE]
    assert "model's own checks" in result.frames[1].reason


def _an_exception(recording: Recording) -> Any:
    other = Recording(recording.directory / "other")
    other.attach(raising(), store=False)(-torch.ones(1))
    return other.calls[0]["exception"]


def test_calls_of_another_shape_ask_for_the_code(recording: Any, replayed: Any) -> None:
    model = recording.attach(classifier())
    model(images(1)[0])
    model(images(1)[0][:1])
    _store_graph(recording, classifier())
    result = replayed(recording.write())
    assert result.frames[0].level is Level.BIT_EXACT
    assert "graphs serve calls with other shapes" in result.frames[1].reason


def test_a_graph_of_another_digest_or_form_is_refused(recording: Any, replayed: Any) -> None:
    recording.attach(classifier())(images(1)[0])
    _store_graph(recording, classifier())
    path = recording.write()
    [graph] = (recording.directory / "models").glob("*.graph.json")
    good = graph.read_bytes()
    graph.write_bytes(good.replace(b"aten.", b"aten_", 1))
    assert "is not what its name says" in replayed(path).frames[0].reason

    hostile = good.replace(b"aten.conv2d.default", b"aten.from_file.default", 1)
    digest = hashlib.sha256(hostile).hexdigest()
    graph.with_name(f"{digest}.graph.json").write_bytes(hostile)
    [known] = recording.models[0].graphs
    recording.set_models(graphs=(dataclasses.replace(known, digest=digest),))
    result = replayed(recording.write("hostile.zst"))
    assert result.exit_code == 3 and result.verdict is Level.NOT_REPLAYABLE
