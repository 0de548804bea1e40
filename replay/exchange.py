"""Between a bundle's values and what goes over the wire to a worker and comes back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

from recorder.bundle.codec import value_from_json, value_to_json
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.values import (
    DTYPES,
    ITEM_SIZE_BYTES,
    MappingValue,
    RecordValue,
    SequenceValue,
    TensorValue,
    Value,
    tensors_of,
)
from replay.compare.comparison import Answer
from replay.protocol import ProtocolError

__all__ = ["Outgoing", "answer_from_wire", "digest_of", "kept", "recorded_answer"]

ReadTensor = Callable[[TensorValue], bytes]


class Outgoing:
    """Collects the values of one request: tagged forms whose tensors point into one payload."""

    def __init__(self, read: ReadTensor) -> None:
        """``read`` gives a tensor's bytes, such as `Bundle.tensor_bytes`."""
        self._read = read
        self.parts: list[bytes] = []
        self.size_bytes = 0

    def add(self, value: Value) -> dict[str, Any]:
        """Return the value's tagged form; its tensors' bytes are appended to ``parts``."""
        match value:
            case TensorValue():
                return {"tensor": self._tensor(value)}
            case SequenceValue(form=form, items=items):
                return {form: [self.add(item) for item in items]}
            case MappingValue(items=pairs):
                return {"dict": [[key, self.add(item)] for key, item in pairs]}
            case RecordValue(type=name, form=form, fields=fields):
                pieces = [[field, self.add(item)] for field, item in fields]
                return {"record": {"type": name, "form": form, "fields": pieces}}
        return value_to_json(value)

    def append(self, data: bytes) -> int:
        """Append bytes; return where in the payload they begin."""
        offset = self.size_bytes
        self.parts.append(data)
        self.size_bytes += len(data)
        return offset

    def _tensor(self, value: TensorValue) -> dict[str, Any]:
        offset = self.append(self._read(value))
        return {
            "container": value.container,
            "dtype": value.dtype,
            "shape": value.shape,
            "strides": value.strides,
            "alignment": value.alignment,
            "device": value.device,
            "offset": offset,
            "size_bytes": value.size_bytes,
        }


def kept(read: ReadTensor, limit_bytes: int) -> ReadTensor:
    """Return a reader that holds on to what it has read: decoded, and checked against its digest, once.

    Args:
        read: gives a tensor's bytes, or raises where they are not the recorded ones.
        limit_bytes: once so much is held, whatever else is asked for is read anew each time.
    """
    held: dict[TensorValue, bytes] = {}
    left = limit_bytes

    def held_or_read(tensor: TensorValue) -> bytes:
        nonlocal left
        data = held.get(tensor)
        if data is None:
            data = read(tensor)
            if len(data) <= left:
                held[tensor] = data
                left -= len(data)
        return data

    return held_or_read


def recorded_answer(value: Value, read: ReadTensor) -> Answer:
    """A recorded value with its bytes, as the comparison takes it."""
    return Answer(value=value, tensors={path: read(tensor) for path, tensor in tensors_of(value)})


def answer_from_wire(tagged: Any, payload: bytearray) -> Answer:
    """Check and build the answer that a worker sent.

    Raises:
        ProtocolError: it is not one; a worker that runs a stranger's graph is not believed either.
    """
    try:
        value = value_from_json(_complete(tagged, 0), "the worker's answer")
    except (BundleInvalid, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError("an answer that is not a value") from error
    view = memoryview(payload)
    tensors = {}
    for path, tensor in tensors_of(value):
        fits = tensor.dtype in DTYPES and len(tensor.shape) == len(tensor.strides) and min(tensor.shape, default=0) >= 0
        if not fits or tensor.size_bytes != math.prod(tensor.shape) * ITEM_SIZE_BYTES[tensor.dtype]:
            raise ProtocolError("an answer with a tensor that cannot be")
        if not 0 <= tensor.offset <= len(view) - tensor.size_bytes:
            raise ProtocolError("an answer with a tensor outside its bytes")
        tensors[path] = bytes(view[tensor.offset : tensor.offset + tensor.size_bytes])
    return Answer(value=value, tensors=tensors)


def digest_of(answer: Answer) -> bytes:
    """A digest of everything in an answer: two passes of a replay agree when theirs do."""
    digest = hashlib.sha256()
    for path, tensor in tensors_of(answer.value):
        digest.update(repr((path, tensor.dtype, tensor.shape, tensor.strides)).encode())
        digest.update(answer.tensors[path])
    digest.update(repr(_plain(answer.value)).encode())
    return digest.digest()


def _complete(tagged: Any, depth: int) -> Any:
    """Add to each tensor what a worker does not know: it has no member, and its bytes are as they are."""
    if depth > 64 or not isinstance(tagged, dict) or len(tagged) != 1:
        return tagged
    [(tag, content)] = tagged.items()
    match tag:
        case "tensor":
            return {"tensor": {**content, "member": "", "encoding": "raw", "sha256": ""}}
        case "tuple" | "list":
            return {tag: [_complete(item, depth + 1) for item in content]}
        case "dict":
            return {tag: [[key, _complete(item, depth + 1)] for key, item in content]}
        case "record":
            fields = [[name, _complete(item, depth + 1)] for name, item in content["fields"]]
            return {tag: {**content, "fields": fields}}
    return tagged


def _plain(value: Value | None) -> Any:
    """The structure and the scalars of a value, without what says where tensors lie."""
    match value:
        case TensorValue():
            return "tensor"
        case SequenceValue(form=form, items=items):
            return form, [_plain(item) for item in items]
        case MappingValue(items=pairs):
            return [(key, _plain(item)) for key, item in pairs]
        case RecordValue(type=name, fields=fields):
            return name, [(key, _plain(item)) for key, item in fields]
    return repr(value)
