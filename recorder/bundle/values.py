"""The structure of arguments and outputs: nested containers whose leaves are tensors, scalars or opaque objects.

A value is what crossed a function's border (a model's arguments, its output, what the service answered) with every
tensor replaced by a description and the place of its bytes. It can be rebuilt without running code of the host.

JSON forms, one key each::

    {"tensor": {...}}                       TensorValue
    {"tuple": [...]}, {"list": [...]}       SequenceValue
    {"dict": [[key, value], ...]}           MappingValue; keys are strings or integers, order kept
    {"record": {"type", "form", "fields"}}  RecordValue: a dataclass or namedtuple
    {"scalar": null|bool|int|float|str}     ScalarValue
    {"float": "nan"|"inf"|"-inf"}           ScalarValue of a float that JSON has no number for
    {"opaque": "package.Type"}              OpaqueValue: an object that could not be captured
    {"removed": {...}}                      RemovedValue: something that was taken out for privacy
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import overload

__all__ = [
    "DTYPES",
    "ITEM_SIZE_BYTES",
    "JsonValue",
    "MappingValue",
    "MAX_DEPTH",
    "OpaqueValue",
    "PLANES",
    "REMOVED_VALUES",
    "RecordValue",
    "RemovedValue",
    "ScalarValue",
    "SequenceValue",
    "TensorValue",
    "Value",
    "first_opaque",
    "map_tensors",
    "has_removed",
    "size_in_bytes",
    "tensors_of",
]

JsonValue = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

#: Bytes per element by dtype name: the names torch and numpy share, plus torch's bfloat16 and float8 kinds.
ITEM_SIZE_BYTES: dict[str, int] = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "uint16": 2,
    "int16": 2,
    "uint32": 4,
    "int32": 4,
    "uint64": 8,
    "int64": 8,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
DTYPES = tuple(ITEM_SIZE_BYTES)

#: Name of the feature a manifest requires of its reader when it holds a RemovedValue.
REMOVED_VALUES = "removed-values"

#: A tensor encoding, and the feature that a manifest with such a tensor requires.
PLANES = "planes"

#: Containers nested deeper are captured as opaque, and refused when read: no model answers so, an attacker might.
MAX_DEPTH = 16


def size_in_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return product of shape times item size, exactly, however large."""
    return math.prod(shape) * ITEM_SIZE_BYTES[dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorValue:
    """One tensor: how it lay in the host's memory, and where its bytes stand in the bundle.

    The bytes are the elements in the order they lay in memory (little-endian, no gaps): a permuted dense tensor such as
    channels_last keeps its order and its strides. When the recorded strides do not describe a dense tensor (an expanded
    or sliced view), the bytes are in C order and ``strides`` still says what the host had.
    """

    container: str  #: "torch" or "numpy"
    dtype: str  #: one of DTYPES
    shape: tuple[int, ...]
    strides: tuple[int, ...]  #: in elements, as the host had them
    alignment: int | None  #: address of the first element modulo 64, in bytes; it changes the bits of some kernels
    device: str  #: "cpu", "cuda:0"
    member: str  #: path of the member that holds the bytes
    offset: int  #: of the first byte within that member; 0 unless small tensors share one
    size_bytes: int  #: of the decoded bytes: product of shape times item size
    encoding: str  #: "raw", "shuffle", "table" or "planes": how the member's bytes were made (schemas/FORMAT.md)
    sha256: str  #: of the decoded bytes, lower-case hex


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceValue:
    """A tuple or a list."""

    form: str  #: "tuple" or "list"
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingValue:
    """A dictionary with string or integer keys, in insertion order."""

    items: tuple[tuple[str | int, Value], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordValue:
    """A dataclass or namedtuple. The type's name is a claim of the host's, shown and never imported."""

    type: str
    form: str  #: "dataclass" or "namedtuple"
    fields: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarValue:
    """None, a bool, an integer, a float or a string."""

    value: bool | int | float | str | None

    def __eq__(self, other: object) -> bool:
        """NaN equals NaN here: two recordings of the same answer are equal."""
        if not isinstance(other, ScalarValue) or type(self.value) is not type(other.value):
            return False
        mine, theirs = self.value, other.value
        if isinstance(mine, float) and isinstance(theirs, float) and math.isnan(mine):
            return math.isnan(theirs)
        return mine == theirs

    def __hash__(self) -> int:
        return hash((type(self.value), str(self.value)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaqueValue:
    """An object that could not be captured; only its type's name is known."""

    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedValue:
    """What stands where something was taken out for privacy: what it was like, and at most a keyed digest."""

    kind: str  #: "tensor", "scalar" (a number, text or nothing) or "object" (anything else, with all that was in it)
    container: str = ""  #: of a tensor "torch" or "numpy"
    dtype: str = ""  #: of a tensor, one of DTYPES
    shape: tuple[int, ...] = ()
    size_bytes: int = 0  #: of a tensor: product of shape times item size
    digest: str | None = None  #: "hmac-sha256:KEY:DIGEST" of a tensor's bytes, where there was a privacy key


Value = TensorValue | SequenceValue | MappingValue | RecordValue | ScalarValue | OpaqueValue | RemovedValue


def tensors_of(value: Value | None, path: str = "") -> Iterator[tuple[str, TensorValue]]:
    """Yield ``(path, tensor)`` for every tensor of a value, in order; paths read like ``[0]['boxes']``."""
    match value:
        case TensorValue():
            yield path, value
        case SequenceValue(items=items):
            for index, item in enumerate(items):
                yield from tensors_of(item, f"{path}[{index}]")
        case MappingValue(items=pairs):
            for key, item in pairs:
                yield from tensors_of(item, f"{path}[{key!r}]")
        case RecordValue(fields=fields):
            for name, item in fields:
                yield from tensors_of(item, f"{path}.{name}")


@overload
def map_tensors(value: SequenceValue, change: Callable[[TensorValue], Value]) -> SequenceValue: ...
@overload
def map_tensors(value: MappingValue, change: Callable[[TensorValue], Value]) -> MappingValue: ...
@overload
def map_tensors(value: Value, change: Callable[[TensorValue], Value]) -> Value: ...


def map_tensors(value: Value, change: Callable[[TensorValue], Value]) -> Value:
    """Return a value with every tensor replaced by what ``change`` makes of it; the structure around them stays."""
    match value:
        case TensorValue():
            return change(value)
        case SequenceValue(items=items):
            return replace(value, items=tuple(map_tensors(item, change) for item in items))
        case MappingValue(items=pairs):
            return replace(value, items=tuple((key, map_tensors(item, change)) for key, item in pairs))
        case RecordValue(fields=fields):
            return replace(value, fields=tuple((name, map_tensors(item, change)) for name, item in fields))
    return value


def has_removed(value: Value | None) -> bool:
    """Whether something within a value was taken out for privacy."""
    match value:
        case RemovedValue():
            return True
        case SequenceValue(items=items):
            return any(has_removed(item) for item in items)
        case MappingValue(items=pairs) | RecordValue(fields=pairs):
            return any(has_removed(item) for _, item in pairs)
    return False


def first_opaque(value: Value, path: str = "") -> tuple[str, str] | None:
    """Return where within a value an object stands that is not there, and its type's name; None: everything is."""
    match value:
        case OpaqueValue(type=name):
            return path, name
        case SequenceValue(items=items):
            parts = [(f"{path}[{index}]", item) for index, item in enumerate(items)]
        case MappingValue(items=pairs):
            parts = [(f"{path}[{key!r}]", item) for key, item in pairs]
        case RecordValue(fields=fields):
            parts = [(f"{path}.{name}", item) for name, item in fields]
        case _:
            return None
    return next((found for where, item in parts if (found := first_opaque(item, where)) is not None), None)
