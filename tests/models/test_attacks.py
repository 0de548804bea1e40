"""A stored graph is untrusted: what is not on the list is refused with a sentence, and nothing has happened."""

from __future__ import annotations

import base64
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.graph_format import FORMAT_NAME
from recorder.graph_sizes import OpenSizes
from replay.graph.document import MAX_REGIONS, GraphRefused, load_graph
from replay.graph.operators import NEVER_GIVEN, OPERATORS, STRING_ARGUMENTS
from tests.models.networks import Segmenter, seeded
from tests.models.support import exported

IMAGE = (torch.rand(1, 3, 16, 16),)


def document(*nodes: dict[str, Any], **changes: Any) -> bytes:
    """A graph of one 2 x 2 input, with the given nodes, answering its last value."""
    content = {
        "format": FORMAT_NAME,
        "version": 1,
        "weights": [],
        "constants": [],
        "inputs": [{"dtype": "float32", "shape": [2, 2]}],
        "args": {"tuple": [{"ref": 0}]},
        "kwargs": {"dict": []},
        "nodes": list(nodes),
        "mutations": [],
        "output": {"ref": len(nodes)},
    }
    return json.dumps({**content, **changes}).encode()


def node(op: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"op": op, "args": list(args), "kwargs": kwargs}


X = {"ref": 0}


def test_an_honest_graph_of_this_form_runs() -> None:
    """So that the refusals below are not for another reason."""
    graph = load_graph(document(node("aten.add.Tensor", X, X, alpha=2)), {})
    assert graph(torch.ones(2, 2)).tolist() == [[3.0, 3.0], [3.0, 3.0]]


@pytest.mark.parametrize(
    "hostile",
    [
        node("aten.from_file.default", "written", True, 4),
        node("aten.set_.source_Tensor", X, X),
        node("aten.resize_.default", X, {"list": [1000]}),
        node("aten.as_strided.default", X, {"list": [1000]}, {"list": [1]}),
        node("aten.empty.memory_format", {"list": [2**30]}),
        node("aten.empty_strided.default", {"list": [4]}, {"list": [1]}),
        node("aten.einsum.default", "ij,jk->ik; import os", {"list": [X, X]}),
        node("aten.einsum.default", "ij,jk->ik", {"list": [X, X]}, path={"list": [0, 1]}),
        node("aten._native_multi_head_attention.default", X, X, X, 2, 2, X, X, X, X, X),
        node("aten._cudnn_init_dropout_state.default", 0.5, True, 1),
        node("aten.save.default", X),
        node("mylib.anything.default", X),
        node("os.system", "touch written"),
        node("builtins.eval", "1"),
        node("torch.ops.aten.add.Tensor", X, X),
        node("higher_order.cond", X, X),
        node("aten.add.__class__", X, X),
        node("getitem", X, 0),
        node("aten.gelu.default", X, approximate="written"),
        node("aten.pad.default", X, {"list": [1, 1]}, "written"),
        node("aten.add.Tensor", X, "written"),
        node("aten.add.Tensor", X, X, alpha="2"),
        node("aten.add.Tensor", X, X, out=X),
        node("aten.add.Tensor", X, X, X, X, X),
        node("aten.add.Tensor", X, {"ref": 1}),
        node("aten.add.Tensor", X, {"ref": -1}),
        node("aten.add.Tensor", X, {"ref": True}),
        node("aten.add.Tensor", X, {"pickle": "gASV"}),
        node("aten.add.Tensor", X, 2**64),
        node("aten.add.Tensor", X, {"graph": {}}),
        node("aten.zeros.default", {"list": [2**20, 2**20]}),
        node("aten.zeros.default", {"list": [2]}, pin_memory=True),
        node("aten.zeros.default", {"list": [2]}, device={"device": "meta"}),
        node("aten.zeros.default", {"list": [2]}, layout={"layout": "sparse_coo"}),
        node("aten.full.default", {"list": [2**15] * 4}, 1.0),
        node("aten.arange.default", 1e12),
        node("aten.arange.start_step", 0, {"float": "inf"}, 1),
        node("aten.repeat.default", X, {"list": [2**20, 2**20]}),
        node("aten.expand.default", X, {"list": [2**40, 2, 2]}),
        node("aten.constant_pad_nd.default", X, {"list": [2**30, 2**30]}, 0),
        node("aten.upsample_nearest2d.vec", X, None, {"list": [1e6, 1e6]}),
        node("aten.cat.default", {"list": [X] * 5000}),
        node("aten.bernoulli.default", X, generator={"ref": 0}),
        {"op": ["aten.add.Tensor"], "args": []},
        {"op": "aten.add.Tensor"},
        "aten.add.Tensor",
    ],
    ids=str,
)
def test_a_hostile_node_is_refused(hostile: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence, without a file made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphRefused) as caught:
        load_graph(document(hostile), {})
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_uninitialised_memory_is_never_shown() -> None:
    """An operator that would read it gets zeros."""
    nodes = [node("aten.empty.memory_format", {"list": [2**20]}), node("aten.new_empty.default", X, {"list": [2**20]})]
    graph = load_graph(document(*nodes, output={"tuple": [{"ref": 1}, {"ref": 2}]}), {})
    assert all(not answer.any() for answer in graph(torch.ones(2, 2)))


def region(body: dict[str, Any], *operands: Any) -> dict[str, Any]:
    return node("higher_order.wrap_with_set_grad_enabled", False, {"graph": body}, *operands)


@pytest.mark.parametrize(
    "hostile",
    [
        region({"inputs": 1, "nodes": [node("aten.from_file.default", "written", True, 4)], "output": X}, X),
        region({"inputs": 1, "nodes": [], "output": {"ref": 1}}, X),
        region({"inputs": 2, "nodes": [], "output": X}, X),
        region({"inputs": -1, "nodes": [], "output": X}),
        region({"inputs": 1, "nodes": [], "output": X}, 3),
        region({}),
        node("higher_order.wrap_with_autocast", "cpu; rm", None, True, None, {"graph": {}}),
        node("higher_order.wrap_with_autocast", "cpu", {"dtype": "int8"}, True, None, {"graph": {}}),
    ],
    ids=str,
)
def test_regions_pass_the_same_walk(hostile: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subgraph is no hiding place."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphRefused):
        load_graph(document(hostile), {})
    assert not list(tmp_path.iterdir())


def test_regions_are_not_nested_without_end() -> None:
    """The walk has a depth."""
    body: dict[str, Any] = {"inputs": 1, "nodes": [], "output": X}
    for _ in range(MAX_REGIONS + 1):
        body = {"inputs": 1, "nodes": [region(body, X)], "output": {"list": [X]}}
    with pytest.raises(GraphRefused, match="nests more than"):
        load_graph(document(region(body, X)), {})


SIZED = {"version": 2, "inputs": [{"dtype": "float32", "shape": [{"size": [0, None]}, 2]}]}
ROWS = node("size", X, 0)


def sized(*nodes: dict[str, Any], **changes: Any) -> bytes:
    """A graph whose first size is open, computing with it."""
    return document(*nodes, **{**SIZED, **changes})


def test_an_honest_graph_with_open_sizes_runs() -> None:
    """So that the refusals below are not for another reason."""
    nodes = (ROWS, node("int.mul", {"ref": 1}, 2), node("aten.view.default", X, {"list": [{"ref": 2}]}))
    graph = load_graph(sized(*nodes), {})
    assert graph(torch.ones(2, 2)).shape == (4,) and graph(torch.ones(3, 2)).shape == (6,)


@pytest.mark.parametrize(
    "hostile",
    [
        node("size", X, 64),
        node("size", X, -1),
        node("size", X, {"ref": 0}),
        node("size", {"ref": 1}, 0),
        node("size", 3, 0),
        node("size", X),
        node("int.add", X, 1),
        node("int.add", {"ref": 1}, 1),
        node("int.add", "s0", 1),
        node("int.add", "__import__('os').system('touch written')", 1),
        node("int.add", {"sym": "s0"}, 1),
        node("int.add", 1.5, 1),
        node("int.add", True, 1),
        node("int.add", 2**64, 1),
        node("int.add", 1, 1, 1),
        node("int.add", 1, 1, alpha=2),
        node("int.pow", 10, 1000),
        node("int.lshift", 1, 1000),
        node("check", X),
        node("check", {"list": [1]}),
        node("aten.relu.default", {"ref": 1}),
    ],
    ids=str,
)
def test_hostile_arithmetic_on_sizes_is_refused(
    hostile: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown operators, symbols, expressions, numbers that are none: before anything has run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphRefused):
        load_graph(sized(hostile), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ([ROWS, node("int.floordiv", 1, {"ref": 1})], "by zero"),
        ([ROWS, node("int.mod", 1, {"ref": 1})], "by zero"),
        ([ROWS, node("check", {"ref": 1})], "does not serve"),
        ([node("int.mul", 2**61, 2), node("int.mul", {"ref": 1}, 4)], "no tensor has"),
        (
            [ROWS, node("int.add", {"ref": 1}, 2**40), node("aten.zeros.default", {"list": [{"ref": 2}]})],
            "asks for more",
        ),
        (
            [ROWS, node("int.add", {"ref": 1}, 2**40), node("aten.arange.default", {"ref": 2})],
            "asks for more",
        ),
        (
            [ROWS, node("int.add", {"ref": 1}, 2**20), node("aten.pad.default", X, {"list": [0, {"ref": 2}]})],
            "asks for more",
        ),
        (
            [node("aten.sum.default", X), node("size", {"ref": 1}, 0)],
            "dimension that is none",
        ),
    ],
    ids=str,
)
def test_what_sizes_come_to_is_bounded_when_it_is_known(nodes: list[dict[str, Any]], sentence: str) -> None:
    """A graph asks for no more with a computed size than with a stated one."""
    graph = load_graph(sized(*nodes), {})
    with pytest.raises(GraphRefused, match=sentence):
        graph(torch.ones(0, 2))


def test_a_number_grows_by_multiplication_only_so_far() -> None:
    """Repeated squaring would make a number of any length."""
    squares = [node("int.mul", {"ref": number}, {"ref": number}) for number in range(1, 40)]
    started = load_graph(sized(ROWS, *squares), {})
    with pytest.raises(GraphRefused, match="no tensor has"):
        started(torch.ones(7, 2))


@pytest.mark.parametrize(
    "shape",
    [
        [{"size": [0]}],
        [{"size": [-1, None]}],
        [{"size": ["s0", None]}],
        [{"size": [0, "s0"]}],
        [{"size": [0, 2**70]}],
        [{"size": [True, None]}],
        [{"symbol": "s0"}],
        ["s0"],
        [{"size": [2**41, None]}],
        "s0",
    ],
    ids=str,
)
def test_an_open_size_that_is_none_is_refused(shape: Any) -> None:
    with pytest.raises(GraphRefused):
        load_graph(document(**{**SIZED, "inputs": [{"dtype": "float32", "shape": shape}]}), {})


def test_a_graph_of_version_1_has_no_open_sizes() -> None:
    """Neither in its inputs nor among its nodes."""
    for changes in ({"inputs": SIZED["inputs"]}, {"nodes": [ROWS]}):
        with pytest.raises(GraphRefused):
            load_graph(document(**changes), {})


SIZED_CALL = {"tuple": [{"tensor": {"dtype": "float32", "shape": [2, 2]}}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": [node("int.floordiv", 1, 0)]},
        {"nodes": [node("int.mul", 2**62, 2**62)]},
        {"nodes": [node("int.add", {"ref": 99}, 1)]},
        {"nodes": [node("int.add", "s0", 1)]},
        {"nodes": [node("size", X, 9)]},
        {"nodes": [node("check", 0)]},
        {"nodes": [{"op": "int.add"}]},
        {"nodes": 7},
        {"inputs": [{"dtype": "float32", "shape": [{"size": ["s0", None]}, 2]}]},
        {"inputs": []},
        {"args": {"tuple": []}},
        {"args": "x"},
        {"args": {"tuple": [{"tuple": [{"tuple": [X]}]}]}},
        {"kwargs": {"dict": [[["unhashable"], X]]}},
        {"weights": 3},
        {"version": True},
    ],
    ids=str,
)
def test_a_hostile_graph_serves_nothing(changes: dict[str, Any]) -> None:
    """The process that plans a replay asks it which sizes it serves; it computes nothing else."""
    found = OpenSizes.of(sized(**changes))
    assert found is None or not found.serve(SIZED_CALL, {"dict": []})
    honest = OpenSizes.of(sized(ROWS))
    assert honest is not None and honest.serve(SIZED_CALL, {"dict": []})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"null",
        b"[]",
        pickle.dumps({"format": FORMAT_NAME}),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"format":"vision-flight-recorder/graph","version":NaN}',
        b'{"format":"vision-flight-recorder/graph","version":2}',
        b'{"format":"vision-flight-recorder/graph","version":3}',
        b'{"format":"vision-flight-recorder/graph","version":true}',
        b'{"format":"vision-flight-recorder/graph","version":1}',
        b'{"format":"vision-flight-recorder/graph","version":' + b"9" * 10_000 + b"}",
    ],
    ids=lambda data: repr(data[:40]),
)
def test_what_is_not_a_graph_document_is_refused(data: bytes) -> None:
    """Malformed, foreign, newer, or nested until the parser gives up."""
    with pytest.raises(GraphRefused):
        load_graph(data, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": [{"name": "absent", "requires_grad": False}]},
        {"weights": [{"name": ["x"], "requires_grad": False}]},
        {"constants": [{"dtype": "float32", "shape": [2**30, 2**30], "data": ""}]},
        {"constants": [{"dtype": "object", "shape": [], "data": ""}]},
        {"constants": [{"dtype": "float32", "shape": [1], "data": "AAAA"}]},
        {"constants": [{"dtype": "float32", "shape": [1], "data": base64.b64encode(b"\0" * 8).decode()}]},
        {"constants": [{"dtype": "float32", "shape": [-1], "data": ""}]},
        {"inputs": [{"dtype": "float32", "shape": ["s0"]}]},
        {"inputs": [{"dtype": "float32", "shape": [{"expr": "__import__('os').system('touch written')"}]}]},
        {"inputs": {}},
        {"args": {"list": [X]}},
        {"args": {"tuple": [{"ref": 7}]}},
        {"args": {"opaque": "pathlib.Path"}},
        {"kwargs": {"dict": [["a"]]}},
        {"kwargs": {"dict": [[None, X]]}},
        {"output": {"ref": 5}},
        {"output": {"record": {"type": "os.system"}}},
        {"output": {"opaque": "x"}},
        {"mutations": [{"weight": 0, "value": X}]},
        {"nodes": "none"},
    ],
    ids=str,
)
def test_every_other_part_is_checked_too(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Symbolic expressions and types are not evaluated: they have no place in the document."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphRefused):
        load_graph(document(**changes), {})
    assert not list(tmp_path.iterdir())


def test_example_inputs_in_a_document_are_ignored(tmp_path: Path) -> None:
    """Nothing is unpickled, whatever stands there."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "written"),)

    pickled = base64.b64encode(pickle.dumps(Evil())).decode()
    graph = load_graph(document(node("aten.relu.default", X), example_inputs=pickled, guards_code=["1/0"]), {})
    assert graph(torch.ones(2, 2)).sum() == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_listed_operator_exists_and_takes_nothing_dangerous(name: str) -> None:
    """Of this torch: no storage, no stream, no object, no string outside the closed sets."""
    _, packet, overload = name.split(".")
    schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
    permitted = {"Tensor", "int", "float", "bool", "number", "ScalarType", "Layout", "Device", "MemoryFormat"}
    for formal in schema.arguments:
        kind = str(formal.real_type)
        for wrapper in ("Optional[", "List[", "Optional["):
            kind = kind.removeprefix(wrapper).removesuffix("]") if kind.startswith(wrapper) else kind
        if kind == "str":
            assert (name, formal.name) in STRING_ARGUMENTS or name == "aten.einsum.default"
        elif (name, formal.name) not in NEVER_GIVEN:
            assert kind in permitted, (formal.name, kind)


HONEST = json.loads(exported(seeded(Segmenter), IMAGE, {}, any_size=True))


def _places(value: Any) -> int:
    """How many values stand in a document."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_places(item) for item in inside)


def _replaced(value: Any, at: list[int], new: Any) -> Any:
    at[0] -= 1
    if at[0] == -1:
        return new
    if isinstance(value, dict):
        return {key: _replaced(item, at, new) for key, item in value.items()}
    return [_replaced(item, at, new) for item in value] if isinstance(value, list) else value


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just({"ref": 0}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ref", "list", "dtype"]), inner),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, _places(HONEST) - 1), junk=JUNK)
def test_a_mutated_graph_loads_or_is_refused(place: int, junk: Any) -> None:
    """There is no third way out."""
    data = json.dumps(_replaced(HONEST, [place], junk)).encode()
    weights = {entry["name"]: torch.zeros(1) for entry in HONEST["weights"]}
    try:
        load_graph(data, weights)
    except GraphRefused as error:
        assert str(error).endswith(".")
    found = OpenSizes.of(data)
    if found is not None:
        found.serve({"tuple": [{"tensor": {"dtype": "float32", "shape": [1, 3, 16, 16]}}]}, {"dict": []})


@pytest.mark.parametrize("module", [7, None, ["a"], "a..b", ".a", "a b", "a\x1b[31m", "a\n", "<b>", "a" * 257])
def test_a_module_path_that_is_none_is_refused(module: Any) -> None:
    """It is only ever shown, and still nothing else than a path gets in."""
    node = {"op": "aten.relu.default", "args": [{"ref": 0}], "module": module}
    with pytest.raises(GraphRefused, match="names a module that cannot be"):
        load_graph(document(node), {})


def test_a_graph_that_names_no_modules_runs_as_before() -> None:
    """Graphs stored by earlier versions."""
    graph = load_graph(document({"op": "aten.relu.default", "args": [{"ref": 0}]}), {})
    assert torch.equal(graph(torch.tensor([[-1.0, 1.0], [2.0, -2.0]])), torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
