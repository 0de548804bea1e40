"""What an ONNX file refers to is found wherever it stands, and hostile bytes give one clear error."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from recorder.models import onnx_file
from recorder.models.onnx_file import OnnxInvalid, references_of
from tests.hooks.conftest import tiny_model


def refers(model: onnx.ModelProto) -> tuple[bool, set[str]]:
    """Whether to external data, and to which domains."""
    found = references_of(memoryview(model.SerializeToString()))
    return found.external_data, found.domains


def external_tensor() -> TensorProto:
    """A tensor whose bytes stand in another file."""
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return tensor


def test_a_model_that_is_whole_refers_to_nothing() -> None:
    assert refers(tiny_model()) == (False, set())
    assert references_of(memoryview(tiny_model().SerializeToString())).problem is None


def test_operators_of_a_foreign_library_are_named() -> None:
    assert refers(tiny_model("my.ops")) == (False, {"my.ops"})
    assert "my.ops" in (references_of(memoryview(tiny_model("my.ops").SerializeToString())).problem or "")


def test_a_function_that_the_model_brings_along_is_not_foreign() -> None:
    model = tiny_model("my.ops")
    body = [helper.make_node("Identity", ["a"], ["b"])]
    model.functions.append(helper.make_function("my.ops", "Foreign", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    assert refers(model) == (False, set())


def test_external_data_is_found_in_initializers_constants_and_subgraphs() -> None:
    plain = tiny_model()
    plain.graph.initializer.append(external_tensor())
    constant = tiny_model()
    constant.graph.node.append(helper.make_node("Constant", [], ["far"], value=external_tensor()))
    nested = tiny_model()
    inner = helper.make_graph([], "inner", [], [], [external_tensor()])
    nested.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    location_alone = tiny_model()
    location_alone.graph.initializer[0].data_location = TensorProto.EXTERNAL
    for model in (plain, constant, nested, location_alone):
        assert refers(model)[0]


def test_what_protobuf_would_read_otherwise_than_we_do_is_refused() -> None:
    """It cuts numbers of fields and of enumerations to 32 bits: onnxruntime would see another field than the check."""
    honest = tiny_model().SerializeToString()
    field = (13 << 3 | 2) + 2**32  # a tensor's external data, to a parser that takes the lower half
    encoded = bytes([field >> shift & 0x7F | 0x80 for shift in range(0, 28, 7)] + [field >> 28 & 0x7F]) + b"\0"
    with pytest.raises(OnnxInvalid):
        references_of(memoryview(honest + encoded))
    tensor = b"\x70\x81\x80\x80\x80\x10"  # data_location: 2**32 + 1, which is cut to EXTERNAL
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    assert references_of(memoryview(honest + b"\x3a" + bytes([len(graph)]) + graph)).external_data


def test_external_data_is_found_in_functions_and_training_graphs() -> None:
    function = tiny_model("my.ops")
    body = [helper.make_node("Identity", ["a"], ["b"])]
    made = helper.make_function("my.ops", "Foreign", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    made.attribute_proto.append(helper.make_attribute("far", external_tensor()))
    function.functions.append(made)
    training = tiny_model()
    training.training_info.add().initialization.initializer.append(external_tensor())
    assert refers(function)[0] and refers(training)[0]


def test_a_file_of_endless_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes each: a gigabyte of them would take minutes."""
    monkeypatch.setattr(onnx_file, "MAX_FIELDS", 1_000)
    with pytest.raises(OnnxInvalid, match="more fields"):
        references_of(memoryview(b"\x08\x00" * 2_000))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer_or_one_error(data: bytes) -> None:
    try:
        references_of(memoryview(data))
    except OnnxInvalid:
        return


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_gives_an_answer_or_one_error(position: int, byte: int) -> None:
    data = bytearray(tiny_model("my.ops").SerializeToString())
    data[position % len(data)] = byte
    try:
        references_of(memoryview(bytes(data)))
    except OnnxInvalid:
        return


def test_graphs_without_end_are_refused() -> None:
    """Written by hand: the protobuf library itself refuses to write such a thing."""

    def field(number: int, content: bytes) -> bytes:
        length, encoded = len(content), b""
        while length >= 0x80:
            encoded, length = encoded + bytes([length & 0x7F | 0x80]), length >> 7
        return bytes([number << 3 | 2]) + encoded + bytes([length]) + content

    graph = b""
    for _ in range(40):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(OnnxInvalid, match="deep"):
        references_of(memoryview(field(7, graph)))
