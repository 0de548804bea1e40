"""What an ONNX file refers to besides itself, read from its protobuf bytes without a library for them.

A model whose weights stand in a neighbouring file, or whose operators come from a library of the host's, is not whole
without these: the file's digest names it, but it does not go to the store. Nothing is parsed that decides nothing
here, and nothing is copied: fields are skipped over by their length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["OnnxInvalid", "OnnxReferences", "references_of"]

#: Operators that every onnxruntime brings along.
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})
#: A model of a hundred thousand nodes has two million; reading as many as this takes some seconds.
MAX_FIELDS = 4_000_000
#: Subgraphs stand in attributes of nodes: `If` in `Loop` in `If`; no honest model comes close.
MAX_DEPTH = 32

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_TRAINING_INITIALIZATION, _TRAINING_ALGORITHM = 1, 2
_FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_ATTRIBUTE = 7, 10, 11
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_SPARSE_VALUES, _SPARSE_INDICES = 1, 2
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14


class OnnxInvalid(ValueError):
    """The bytes are no ONNX model."""


@dataclass(slots=True)
class OnnxReferences:
    """What a model needs besides its file."""

    external_data: bool = False  #: tensors stand in other files
    domains: set[str] = field(default_factory=set)  #: of operators that neither the model nor onnxruntime defines
    fields: int = 0  #: read so far

    @property
    def problem(self) -> str | None:
        """One sentence that says why the file alone is not the model; None where it is."""
        if self.external_data:
            return "Its weights stand in files beside the model file, which are not stored; save it as one file."
        if self.domains:
            named = ", ".join(sorted(self.domains))[:200]
            return f"Its operators come from a library of the host's ({named}), so the model file is not stored."
        return None


def references_of(data: memoryview) -> OnnxReferences:
    """Read a whole ONNX file.

    Raises:
        OnnxInvalid: it is no ONNX model (an .ort file, say), or nested deeper than any honest one.
    """
    found = OnnxReferences()
    defined: set[str] = set()
    has_graph = False
    for number, content in _messages(data, found):
        if number == _MODEL_GRAPH:
            has_graph = True
            _graph(content, found, 0)
        elif number == _MODEL_FUNCTIONS:
            for inner, part in _messages(content, found):
                if inner == _FUNCTION_NODE:
                    _node(part, found, 0)
                elif inner == _FUNCTION_ATTRIBUTE:
                    _attribute(part, found, 0)
                elif inner == _FUNCTION_DOMAIN:
                    defined.add(_text(part))
        elif number == _MODEL_TRAINING:
            for inner, part in _messages(content, found):
                if inner in (_TRAINING_INITIALIZATION, _TRAINING_ALGORITHM):
                    _graph(part, found, 0)
    if not has_graph:
        raise OnnxInvalid("the file holds no graph")
    found.domains -= KNOWN_DOMAINS | defined
    return found


def _graph(data: memoryview, found: OnnxReferences, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise OnnxInvalid("graphs nested too deep")
    for number, content in _messages(data, found):
        if number == _GRAPH_NODE:
            _node(content, found, depth)
        elif number == _GRAPH_INITIALIZER:
            _tensor(content, found)
        elif number == _GRAPH_SPARSE:
            _sparse(content, found)


def _node(data: memoryview, found: OnnxReferences, depth: int) -> None:
    for number, content in _messages(data, found):
        if number == _NODE_DOMAIN:
            found.domains.add(_text(content))
        elif number == _NODE_ATTRIBUTE:
            _attribute(content, found, depth)


def _attribute(data: memoryview, found: OnnxReferences, depth: int) -> None:
    for number, content in _messages(data, found):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _tensor(content, found)
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            _graph(content, found, depth + 1)
        elif number in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            _sparse(content, found)


def _sparse(data: memoryview, found: OnnxReferences) -> None:
    for number, content in _messages(data, found):
        if number in (_SPARSE_VALUES, _SPARSE_INDICES):
            _tensor(content, found)


def _tensor(data: memoryview, found: OnnxReferences) -> None:
    for number, value in _fields(data, found):
        # Either field alone: a reader may go by either, and cuts numbers to 32 bits.
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0):
            found.external_data = True


def _messages(data: memoryview, found: OnnxReferences) -> Iterator[tuple[int, memoryview]]:
    for number, value in _fields(data, found):
        if isinstance(value, memoryview):
            yield number, value


def _fields(data: memoryview, found: OnnxReferences) -> Iterator[tuple[int, int | memoryview]]:
    position, end = 0, len(data)
    while position < end:
        found.fields += 1
        if found.fields > MAX_FIELDS:
            raise OnnxInvalid("more fields than any model has")
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if number == 0 or key >= 2**32:  # protobuf cuts a longer one, and would see another field than we do
            raise OnnxInvalid("a field without a number")
        value: int | memoryview = 0
        if kind == _VARINT:
            value, position = _varint(data, position)
        elif kind == _LENGTH:
            length, position = _varint(data, position)
            value = data[position : position + length]
            position += length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise OnnxInvalid("a field of a kind that protobuf no longer has")
        if position > end:
            raise OnnxInvalid("a field is longer than the file")
        yield number, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise OnnxInvalid("a number is cut off or too long")


def _text(data: memoryview) -> str:
    return bytes(data[:200]).decode("utf-8", "replace")
