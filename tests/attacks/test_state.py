"""Hostile states: patterns that must not hang, names that are no tensors, graphs whose state is not what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recorder.export_child import export_document
from recorder.models import skeleton
from recorder.models.state import MAX_PATTERN_CHARS, MAX_PATTERNS, StateNames, StateRefused, put_state
from replay.graph.document import GraphRefused, load_graph
from replay.graph.run import LoadedGraph
from replay.worker.loading import LoadFailed, load_model
from tests.models.support import tagged
from tests.stateful import networks

NAMES = StateNames(("hidden*", "mean*", "cell.*", "forward", "_buffers*", "__class__", "training"))


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 1000,
        "*" * 1999 + "b",
        "*?" * 1000,
        "[!a]*" * 400,
        "*[a-z]" * 300 + "!",
        "[" * 2000,
        "[z-a]*[!]]" * 200,
        "a" * 1998 + "*b",
        "\\Z|(.*)*$(?P<x>",
    ],
)
def test_no_pattern_takes_long(pattern: str) -> None:
    """Stars are matched once and for all, so that time grows with the lengths and never with their power."""
    names = StateNames((pattern, *(f"{pattern[:1990]}{number}" for number in range(5))))
    for name in ("a" * 2000, "ab" * 1000, "layer.0.weight", pattern[:2000]):
        assert isinstance(name in names, bool)


@given(st.lists(st.text("ab*?[]!-.\\^$()|{}\n", max_size=12), max_size=6), st.text("ab.[*", max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_patterns_can_be_asked(patterns: list[str], name: str) -> None:
    """None is a regular expression of its own, and each counts by itself."""
    assert (name in StateNames(patterns)) == any(name in StateNames((pattern,)) for pattern in patterns)


@pytest.mark.parametrize(
    "patterns",
    [
        [f"*{number}" for number in range(MAX_PATTERNS + 1)],
        ["[" * (MAX_PATTERN_CHARS + 1)],
        [f"{number:02000}" for number in range(60)],
    ],
)
def test_too_many_patterns_are_refused_before_they_are_compiled(patterns: list[str]) -> None:
    """By the recorder, which says so to the host, and by the worker that loads the model of a bundle."""
    with pytest.raises(StateRefused, match="more than 1000 patterns"):
        StateNames(patterns)
    request = {
        "source": "factory", "factory": "tests.stateful.networks:buffer", "path": None, "digest": None, "layouts": {},
        "training_modules": [], "state": patterns, "add_path": None,
    }  # fmt: skip
    with pytest.raises(LoadFailed, match="more than 1000 patterns"):
        load_model(request, b"", "cpu")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"weight": torch.zeros(1)}, "not one of the model's state"),
        ({"hidden": 3}, "is no tensor"),
        ({"hidden": [torch.zeros(1)]}, "is no tensor"),
        ({"hidden" + ".0" * 20_000: torch.zeros(1)}, "more than 100 parts"),
        ({"hidden.0": torch.zeros(1)}, "one tensor and not several"),
        ({"forward": torch.zeros(1)}, "no place"),
        ({"_buffers": torch.zeros(1)}, "no place"),
        ({"_buffers.hidden": torch.zeros(1)}, "no place"),
        ({"__class__": torch.zeros(1)}, "no place"),
        ({"training": torch.zeros(1)}, "no"),
        ({"cell.__init__": torch.zeros(1)}, "no place"),
        ({"hidden..": torch.zeros(1)}, "one tensor and not several"),
        ({"hidden": torch.zeros(1, 8), "hidden.999999": torch.zeros(1)}, "one tensor and not several"),
    ],
)
def test_a_module_takes_no_state_that_is_not_its_own(state: dict[str, Any], said: str) -> None:
    """One sentence, of names cut short; code and what torch keeps for itself stay what they are."""
    module = networks.buffer()
    with pytest.raises(StateRefused, match=said) as refused:
        put_state(module, NAMES, state)
    assert len(str(refused.value)) < 300
    assert type(module) is networks.Buffer and callable(module.forward) and module.training is False


def test_a_state_that_names_a_weight_changes_this_call_alone_to_what_it_brings() -> None:
    """A pattern may name weights: then they are part of no digest, come with the call, and stay parameters."""
    module = networks.buffer()
    put_state(module, StateNames(("*",)), {name: tensor * 0 for name, tensor in module.state_dict().items()})
    assert isinstance(module.cell.weight, nn.Parameter) and not module.cell.weight.any()


class Summed(nn.Module):
    """Adds its input to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)
        self.register_buffer("hidden", torch.zeros(1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.hidden.add_(x)
        return self.head(self.hidden) * 2


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The graph of `Summed`, whose third weight is its state."""
    before = ("hidden",), tagged({"hidden": torch.zeros(1, 4)})
    args = tagged((torch.zeros(1, 4),))
    exported = export_document(skeleton(Summed().eval()), args, tagged({}), {}, state=before)
    found: dict[str, Any] = json.loads(exported)
    assert [entry["name"] for entry in found["weights"]] == ["head.weight", "head.bias", "hidden"]
    return found


def loaded(document: dict[str, Any], **state: Any) -> LoadedGraph:
    """The document with other fields in its state's entry."""
    entry = {**document["weights"][2], **state}
    weights = {name: tensor.detach() for name, tensor in Summed().state_dict().items() if name != "hidden"}
    changed = {**document, "weights": [*document["weights"][:2], entry]}
    return load_graph(json.dumps(changed).encode(), weights)


@pytest.mark.parametrize(
    "entry",
    [
        {"name": 3},
        {"name": None},
        {"state": None},
        {"state": 5},
        {"state": [1, 4]},
        {"state": {}},
        {"state": {"dtype": "float32"}},
        {"state": {"dtype": "object", "shape": [1, 4]}},
        {"state": {"dtype": "float32", "shape": [-1, 4]}},
        {"state": {"dtype": "float32", "shape": ["x", 4]}},
        {"state": {"dtype": "float32", "shape": [2**62, 2**62]}},
        {"state": {"dtype": "float32", "shape": [2**40]}},
        {"state": {"dtype": "float32", "shape": [1] * 10_000}},
        {"state": {"dtype": "float32", "shape": [{"size": [1, None]}, 4]}},
    ],
)
def test_a_graph_with_a_state_that_can_be_none_is_refused(document: dict[str, Any], entry: dict[str, Any]) -> None:
    """Before anything is run or reserved."""
    with pytest.raises(GraphRefused):
        loaded(document, **entry)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"other": torch.zeros(1, 4)},
        {"hidden": torch.zeros(1, 5)},
        {"hidden": torch.zeros(4)},
        {"hidden": torch.zeros(1, 4, dtype=torch.float64)},
        {"hidden": "x"},
        {"hidden": [torch.zeros(1, 4)]},
    ],
)
def test_a_state_that_the_graph_does_not_serve_is_refused(document: dict[str, Any], state: dict[str, Any]) -> None:
    """Each with the name of the tensor; without any state the graph does not run on what memory holds."""
    graph = loaded(document)
    with pytest.raises(GraphRefused, match="hidden"):
        graph.put_state(state)
    with pytest.raises(GraphRefused, match="the call brings none"):
        graph(torch.zeros(1, 4))


def test_an_entry_twice_or_under_the_name_of_a_weight_reaches_no_other_tensor(document: dict[str, Any]) -> None:
    """A graph's state is what the call brings; weights of the file stay what they are, whatever is named like them."""
    graph = loaded(document, name="head.bias", state={"dtype": "float32", "shape": [1, 4]})
    brought = torch.ones(1, 4)
    bias = graph.state["head.bias"]
    graph.put_state({"head.bias": brought})
    with torch.no_grad():
        graph(torch.ones(1, 4))
    assert (brought == 2).all() and bias is not brought
    twice = {**document, "weights": [*document["weights"], document["weights"][2]]}
    with pytest.raises(GraphRefused):  # every number after it means another value
        load_graph(json.dumps(twice).encode(), dict(Summed().state_dict()))
