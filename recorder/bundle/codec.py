"""Between the manifest's dataclasses and JSON: one codec for the whole tree, driven by the type hints."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import Call
from recorder.bundle.signature import call_form, call_signature
from recorder.bundle.values import (
    MAX_DEPTH,
    JsonValue,
    MappingValue,
    OpaqueValue,
    RecordValue,
    RemovedValue,
    ScalarValue,
    SequenceValue,
    TensorValue,
    Value,
)

__all__ = ["form_of", "from_json", "signature_of", "to_json", "value_from_json", "value_to_json"]

T = TypeVar("T")

_VALUE_TYPES = (TensorValue, SequenceValue, MappingValue, RecordValue, ScalarValue, OpaqueValue, RemovedValue)
_NOT_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(node: Any) -> Any:
    """Turn a dataclass of the manifest's tree into plain JSON data; fields at their default are left out."""
    if isinstance(node, _VALUE_TYPES):
        return value_to_json(node)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return _fields_to_json(node)
    if isinstance(node, tuple | list):
        return [to_json(item) for item in node]
    if isinstance(node, dict):
        return {key: to_json(item) for key, item in node.items()}
    return node


def value_to_json(value: Value) -> dict[str, Any]:
    """Turn one value into its tagged JSON form (see recorder.bundle.values)."""
    match value:
        case TensorValue():
            return {"tensor": _fields_to_json(value)}
        case SequenceValue(form=form, items=items):
            return {form: [value_to_json(item) for item in items]}
        case MappingValue(items=pairs):
            return {"dict": [[key, value_to_json(item)] for key, item in pairs]}
        case RecordValue():
            fields = [[name, value_to_json(item)] for name, item in value.fields]
            return {"record": {"type": value.type, "form": value.form, "fields": fields}}
        case ScalarValue(value=float() as number) if not math.isfinite(number):
            return {"float": "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"}
        case ScalarValue(value=plain):
            return {"scalar": plain}
        case OpaqueValue(type=name):
            return {"opaque": name}
        case RemovedValue():
            return {"removed": _fields_to_json(value)}


def signature_of(call: Call) -> str:
    """Return the signature of a recorded call: which exported graph serves it."""
    state = None if call.state is None else value_to_json(call.state)
    return call_signature(value_to_json(call.args), value_to_json(call.kwargs), state)


def form_of(call: Call) -> str:
    """Return the form of a recorded call: which graphs may serve it that leave sizes open."""
    state = None if call.state is None else value_to_json(call.state)
    return call_form(value_to_json(call.args), value_to_json(call.kwargs), state)


def from_json(kind: type[T], data: object, where: str = "manifest") -> T:
    """Build a dataclass of the manifest's tree from JSON data.

    Unknown keys are ignored (a newer minor version may have written them).

    Raises:
        BundleInvalid: a field is missing or of another type; the message names it.
    """
    return cast(T, _decoder(cast(Any, kind))(data, where))


def value_from_json(data: object, where: str = "value", depth: int = 0) -> Value:
    """Parse one tagged value.

    Raises:
        BundleInvalid: the form is unknown, a part has the wrong type, or it is nested deeper than MAX_DEPTH.
    """
    if depth > MAX_DEPTH:
        raise BundleInvalid(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(data, dict) or len(data) != 1:
        raise BundleInvalid(f"{where} is not a value: one key was expected")
    tag, content = next(iter(data.items()))
    match tag:
        case "tensor":
            return from_json(TensorValue, content, where)
        case "tuple" | "list" if isinstance(content, list):
            items = (value_from_json(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(content))
            return SequenceValue(form=tag, items=tuple(items))
        case "dict" if isinstance(content, list):
            return MappingValue(items=tuple(_pair(pair, where, depth) for pair in content))
        case "record" if isinstance(content, dict):
            return _record(content, where, depth)
        case "scalar" if content is None or isinstance(content, bool | int | float | str):
            return ScalarValue(value=content)
        case "float" if isinstance(content, str) and content in _NOT_NUMBERS:
            return ScalarValue(value=_NOT_NUMBERS[content])
        case "opaque" if isinstance(content, str):
            return OpaqueValue(type=content)
        case "removed":
            return from_json(RemovedValue, content, where)
    raise BundleInvalid(f"{where} is not a value this version knows")


def _pair(pair: object, where: str, depth: int) -> tuple[str | int, Value]:
    match pair:
        case [str() | int() as key, item] if not isinstance(key, bool):
            return key, value_from_json(item, f"{where}[{key!r}]", depth + 1)
    raise BundleInvalid(f"{where} has a key that is neither a string nor an integer")


def _record(content: dict[str, object], where: str, depth: int) -> RecordValue:
    match content:
        case {"type": str() as name, "form": "dataclass" | "namedtuple" as form, "fields": list() as fields}:
            pairs = [_pair(pair, where, depth) for pair in fields]
            if all(isinstance(key, str) for key, _ in pairs):
                return RecordValue(type=name, form=form, fields=tuple((str(key), item) for key, item in pairs))
    raise BundleInvalid(f"{where} is not a record this version knows")


def _fields_to_json(node: Any) -> dict[str, Any]:
    data = {}
    for field in dataclasses.fields(node):
        content = getattr(node, field.name)
        if field.default is not dataclasses.MISSING and field.name not in _ALWAYS_WRITTEN:
            if content == field.default:
                continue
        elif field.default_factory is not dataclasses.MISSING and not content:
            continue
        data[field.name] = to_json(content)
    return data


#: Written although they have defaults: a reader must find them to know what it holds.
_ALWAYS_WRITTEN = frozenset({"format", "format_version", "complete"})

_Decoder = Callable[[object, str], Any]


@functools.cache
def _decoder(hint: Any) -> _Decoder:
    """The function that checks and builds one type hint."""
    if _is_json(hint):
        return _json_value
    if hint == Value or hint == (Value | None):
        optional = hint != Value
        return lambda data, where: None if data is None and optional else value_from_json(data, where)
    if hint in (SequenceValue, MappingValue):
        return functools.partial(_exactly, hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass_decoder(cast(type, hint))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [_decoder(argument) for argument in arguments if argument is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"the manifest's codec has no rule for {hint}")
        return lambda data, where: None if data is None else inner[0](data, where)
    if origin is tuple:
        item = _decoder(arguments[0])
        return lambda data, where: tuple(
            item(part, f"{where}[{i}]") for i, part in enumerate(_expect(list, data, where))
        )
    if origin is dict:
        item = _decoder(arguments[1])
        return lambda data, where: {
            key: item(part, f"{where}.{key}") for key, part in _expect(dict, data, where).items()
        }
    if hint is float:
        return _number
    if hint in (int, str, bool):
        return functools.partial(_expect, hint)
    raise TypeError(f"the manifest's codec has no rule for {hint}")


def _is_json(hint: Any) -> bool:
    """Whether a hint is JsonValue: resolving hints unrolls the recursive alias, so it is known by its members."""
    kinds = {typing.get_origin(part) or part for part in typing.get_args(hint)}
    return hint == JsonValue or kinds == {bool, int, float, str, list, dict, type(None)}


def _dataclass_decoder(kind: type) -> _Decoder:
    hints = typing.get_type_hints(kind)
    fields = [(f.name, _decoder(hints[f.name]), f) for f in dataclasses.fields(kind)]

    def decode(data: object, where: str) -> object:
        content = _expect(dict, data, where)
        arguments = {}
        for name, decoder, field in fields:
            if name in content:
                arguments[name] = decoder(content[name], f"{where}.{name}")
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise BundleInvalid(f"{where}.{name} is missing")
        return kind(**arguments)

    return decode


def _exactly(kind: type[SequenceValue] | type[MappingValue], data: object, where: str) -> Value:
    value = value_from_json(data, where)
    if not isinstance(value, kind):
        raise BundleInvalid(f"{where} is a value of another form than expected")
    return value


def _expect(kind: type, data: object, where: str) -> Any:
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise BundleInvalid(f"{where} is not of type {kind.__name__}")
    return data


def _number(data: object, where: str) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise BundleInvalid(f"{where} is not a number")
    return float(data)


def _json_value(data: object, where: str) -> JsonValue:
    return cast(JsonValue, data)
