"""What a worker is asked to watch in one call, and what it saw: digests of every layer's inputs, outputs and weights.

A worker may run a stranger's graph, so what it sends is checked like a file's content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.values import DTYPES
from replay.compare.comparison import Answer
from replay.exchange import Outgoing, answer_from_wire
from replay.protocol import ProtocolError

__all__ = ["Kept", "Key", "LayerRecord", "Seen", "TensorDigest", "Watch", "seen_from_wire"]

#: As many buckets as a sketch has (recorder.layers.digest, which needs torch).
SKETCH_BUCKETS = 61

_HASH = re.compile(r"[0-9a-f]{16}")
_MAX_NAME_CHARS = 1000
_MAX_RECORDS = 20_000
_MAX_TENSORS = 64
_MAX_DIMENSIONS = 64

#: Path of the module ("" is the root), name of the operator ("" for the module itself), and the how manieth such call.
Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDigest:
    """One tensor: equal hashes mean equal elements; sketches of one shape tell how far apart two are."""

    hash: str  #: 16 hex digits
    dtype: str
    shape: tuple[int, ...]
    sketch: NDArray[np.float64] | None = None
    name: str = ""  #: of a weight, within its module

    def same(self, other: TensorDigest) -> bool:
        """Whether dtype, shape and elements are equal."""
        return (self.hash, self.dtype, self.shape) == (other.hash, other.dtype, other.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """One call of a module, or of an operator."""

    key: Key
    kind: str  #: class of the module, or the operator
    parent: int | None  #: index of the record of the call it was made in
    begin: int  #: in the order of all beginnings and ends
    end: int | None  #: None when it raised
    inputs: tuple[TensorDigest, ...]
    outputs: tuple[TensorDigest, ...]
    state: tuple[TensorDigest, ...] = ()  #: its own weights and buffers as the call began

    @property
    def path(self) -> str:
        """Of the module."""
        return self.key[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The inputs and outputs of one call, whole."""

    arguments: dict[str, Any]  #: tagged form of ``(args, kwargs)``, tensors only
    arguments_data: bytes
    output: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of one call of a model, in the order in which layers began."""

    records: tuple[LayerRecord, ...]
    kept: Mapping[Key, Kept] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What to watch besides every module, or every node of a graph."""

    within: Key | None = None  #: a module's call whose operators are watched too
    keep: tuple[Key, ...] = ()  #: calls to be returned whole
    force: Mapping[Key, Kept] = field(default_factory=dict)  #: calls that get these arguments in place of their own
    sampled: bool = False  #: sketch as the recorder does at capture

    def request(self, outgoing: Outgoing) -> dict[str, Any]:
        """Return what is sent to the worker."""
        force = [
            [list(key), kept.arguments, outgoing.append(kept.arguments_data), len(kept.arguments_data)]
            for key, kept in self.force.items()
        ]
        within = None if self.within is None else list(self.within)
        return {"within": within, "keep": [list(key) for key in self.keep], "force": force, "sampled": self.sampled}


def seen_from_wire(form: Any, payload: memoryview) -> Seen:
    """Check and build what a worker sent.

    Args:
        form: from its reply's header.
        payload: the bytes that belong to it: kept values, then sketches.

    Raises:
        ProtocolError: it is not what was agreed on.
    """
    try:
        kept, used = _kept(form["kept"], payload)
        count = form["sketches"]
        if type(count) is not int or count * SKETCH_BUCKETS * 8 != len(payload) - used:
            raise ProtocolError("sketches of another number than announced")
        sketches = np.frombuffer(payload[used:], "<f8").reshape(count, SKETCH_BUCKETS)
        if len(form["records"]) > _MAX_RECORDS:
            raise ProtocolError("more layers than a model has")
        records = tuple(_record(record, number, sketches) for number, record in enumerate(form["records"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ProtocolError("layers that are none") from error
    return Seen(records=records, kept=kept)


def _kept(forms: Sequence[Mapping[str, Any]], payload: memoryview) -> tuple[dict[Key, Kept], int]:
    kept, used = {}, 0
    for form in forms:
        sizes = form["arguments_bytes"], form["output_bytes"]
        if not all(type(size) is int and 0 <= size <= len(payload) for size in sizes):
            raise ProtocolError("a layer's values of an impossible size")
        arguments = bytes(payload[used : used + sizes[0]])
        output = bytearray(payload[used + sizes[0] : used + sum(sizes)])
        used += sum(sizes)
        answer_from_wire(form["arguments"], bytearray(arguments))  # checks that every tensor has its bytes
        kept[_key(form["key"])] = Kept(
            arguments=form["arguments"], arguments_data=arguments, output=answer_from_wire(form["output"], output)
        )
    return kept, used


def _record(form: Mapping[str, Any], number: int, sketches: NDArray[np.float64]) -> LayerRecord:
    parent, begin, end = form["parent"], form["begin"], form["end"]
    if not (parent is None or (type(parent) is int and 0 <= parent < number)):
        raise ProtocolError("a layer inside one that came later")
    if type(begin) is not int or not (end is None or (type(end) is int and end > begin)):
        raise ProtocolError("a layer that ended before it began")
    groups = {
        name: tuple(_digest(tensor, sketches) for tensor in form[name][:_MAX_TENSORS])
        for name in ("inputs", "outputs", "state")
    }
    key = _key([form["path"], form["operator"], form["index"]])
    return LayerRecord(key=key, kind=_name(form["kind"]), parent=parent, begin=begin, end=end, **groups)


def _digest(form: Mapping[str, Any], sketches: NDArray[np.float64]) -> TensorDigest:
    shape, sketch = tuple(form["shape"]), form["sketch"]
    if not _HASH.fullmatch(form["hash"]) or form["dtype"] not in DTYPES or len(shape) > _MAX_DIMENSIONS:
        raise ProtocolError("a digest that is none")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ProtocolError("a digest of a tensor that cannot be")
    if sketch is not None and not (type(sketch) is int and 0 <= sketch < len(sketches)):
        raise ProtocolError("a sketch that was not sent")
    return TensorDigest(
        hash=form["hash"],
        dtype=form["dtype"],
        shape=shape,
        sketch=None if sketch is None else sketches[sketch],
        name=_name(form["name"]),
    )


def _key(form: Sequence[Any]) -> Key:
    path, operator, index = form
    if type(index) is not int or index < 0:
        raise ProtocolError("a layer that is none")
    return _name(path), _name(operator), index


def _name(text: Any) -> str:
    if not isinstance(text, str) or len(text) > _MAX_NAME_CHARS:
        raise ProtocolError("a layer's name that is none")
    return text
