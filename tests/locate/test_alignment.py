"""Two runs held against each other: which layer is the root, and when there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from replay.locate.alignment import distance, outputs_alone, part, within
from replay.locate.records import LayerRecord, Seen, TensorDigest


def digest(value: float, shape: tuple[int, ...] = (61,), name: str = "") -> TensorDigest:
    bits = np.float64(value).tobytes().hex()
    return TensorDigest(hash=bits, dtype="float64", shape=shape, sketch=np.full(61, value), name=name)


class Run:
    """Writes down calls as a worker would see them."""

    def __init__(self) -> None:
        self.records: list[LayerRecord] = []
        self.clock = 0

    def begin(self, path: str, given: float, operator: str = "", inside: int | None = None, index: int = 0) -> int:
        self.clock += 1
        self.records.append(
            LayerRecord(
                key=(path, operator, index),
                kind=operator or "Linear",
                parent=inside,
                begin=self.clock,
                end=None,
                inputs=(digest(given),),
                outputs=(),
                state=(digest(1.0, name="weight"),),
            )
        )
        return len(self.records) - 1

    def end(self, number: int, gave: float) -> None:
        self.clock += 1
        self.records[number] = replace(self.records[number], end=self.clock, outputs=(digest(gave),))

    def call(self, path: str, given: float, gave: float, **more: object) -> None:
        self.end(self.begin(path, given, **more), gave)  # type: ignore[arg-type]

    def seen(self) -> Seen:
        return Seen(records=tuple(self.records))


def network(*values: float) -> Seen:
    """A model of two layers: what goes in, comes out of the first, goes into and comes out of the second."""
    run = Run()
    model = run.begin("", values[0])
    run.call("a", values[0], values[1], inside=model)
    run.call("b", values[2], values[3], inside=model)
    run.end(model, values[3])
    return run.seen()


def test_equal_runs_have_no_root() -> None:
    """Nothing differs, nothing is named."""
    found = part(network(1, 2, 2, 3), network(1, 2, 2, 3))
    assert found.root is None and not found.differing and found.structure is None


def test_the_root_is_the_first_layer_whose_output_differs_while_its_inputs_matched() -> None:
    """What follows it differs too, and is not named."""
    assert part(network(1, 2, 2, 3), network(1, 2.5, 2.5, 3.5)).root == ("a", "", 0)
    assert part(network(1, 2, 2, 3), network(1, 2, 2, 3.5)).root == ("b", "", 0)


def test_what_a_layer_computes_itself_between_its_parts_is_its_own() -> None:
    """The first difference is what goes into b, though a gave the same: the model around both made it."""
    found = part(network(1, 2, 2, 3), network(1, 2, 2.5, 3))
    assert found.root == ("", "", 0) and found.before == ("b", "", 0)


def test_other_inputs_from_the_start_have_no_root() -> None:
    """Then the sides were asked different questions."""
    found = part(network(1, 2, 2, 3), network(1.5, 2.5, 2.5, 3))
    assert found.root is None and found.before == ("", "", 0)


def test_another_sequence_of_calls_is_a_finding_of_its_own() -> None:
    """Compared is what comes before it."""
    longer = Run()
    model = longer.begin("", 1)
    longer.call("a", 1, 2, inside=model)
    longer.call("c", 2, 2, inside=model)
    longer.end(model, 3)
    found = part(network(1, 2, 2, 3), longer.seen())
    assert found.structure == (
        "the two runs call other layers: after a (Linear) one calls b (Linear), the other c (Linear)"
    )
    assert {layer.key[0] for layer in found.layers} == {"a"}


def test_weights_that_differ_are_named_with_their_distance() -> None:
    """By how much, from their sketches."""
    ours, theirs = network(1, 2, 2, 3), network(1, 2, 2, 3)
    changed = replace(theirs.records[1], state=(digest(1.5, name="weight"),))
    found = part(ours, Seen(records=(theirs.records[0], changed, theirs.records[2])))
    assert {layer.key[0]: layer.weights for layer in found.layers if layer.weights} == {"a": (("weight", 0.5),)}


def test_a_stored_graph_and_modules_are_compared_by_the_outputs_of_the_innermost_modules() -> None:
    """Nodes of one module that follow each other are one call; what is computed between modules is left out."""
    nodes = Run()
    nodes.call("block.a", 1, 1.5, operator="aten.conv2d.default")
    nodes.call("block.a", 1.5, 2, operator="aten.relu.default")
    nodes.call("block", 2, 9, operator="aten.add.Tensor")
    nodes.call("block.b", 9, 3, operator="aten.conv2d.default")
    modules = Run()
    block = modules.begin("block", 1)
    modules.call("block.a", 1, 2, inside=block)
    modules.call("block.b", 9, 4, inside=block)
    modules.end(block, 4)
    found = part(*outputs_alone(nodes.seen(), modules.seen()))
    assert [layer.key[0] for layer in found.layers] == ["block.a", "block.b"]
    assert found.root == ("block.b", "", 0) and found.structure is None


def test_the_inside_of_one_call_is_a_run_of_its_own() -> None:
    """Parents are counted anew."""
    run = Run()
    model = run.begin("", 1)
    a = run.begin("a", 1, inside=model)
    run.call("a", 1, 2, operator="aten.mm.default", inside=a)
    run.end(a, 2)
    run.call("b", 2, 3, inside=model)
    run.end(model, 3)
    inside = within(run.seen(), ("a", "", 0))
    assert [(record.key[1], record.parent) for record in inside.records] == [("", None), ("aten.mm.default", 0)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_the_root_never_has_other_inputs(ours: list[float], theirs: list[float]) -> None:
    """Whatever the values: a layer is named only if all that went into it was the same."""
    found = part(network(*ours), network(*theirs))
    named = {layer.key: layer for layer in found.layers}
    if found.root is not None:
        assert named[found.root].inputs_match


def test_tensors_of_other_shapes_have_no_distance() -> None:
    """And equal ones have none to tell."""
    assert distance([digest(1.0)], [digest(2.0, (2,))]) is None
    assert distance([digest(1.0)], []) is None
    assert distance([digest(1.0)], [digest(1.0)]) == 0.0
    assert distance([digest(2.0)], [digest(3.0)]) == 0.5
