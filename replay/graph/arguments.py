"""Checks one argument of one operator of a stored graph against that operator's schema."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch

from recorder.bundle.values import ITEM_SIZE_BYTES
from replay.graph.operators import EQUATION, NEVER_GIVEN, STRING_ARGUMENTS

__all__ = [
    "MAX_DEPTH",
    "MAX_DIMENSIONS",
    "GraphRefused",
    "Kind",
    "Ref",
    "argument",
    "check_extent",
    "constant",
    "kind_of_result",
    "whole_number",
]

#: As deep as values may be nested; matches recorder.bundle.values.
MAX_DEPTH = 16
#: Elements that one argument may ask for (sizes of a factory, repeats): 2**28 floats are 1 GiB.
MAX_ELEMENTS = 2**28
MAX_LIST = 4096
MAX_DIMENSIONS = 64
#: All constants of a graph are small; the recorder writes none above 16 KiB.
MAX_CONSTANT_BYTES = 2**20

_DTYPES = {name: getattr(torch, name) for name in ITEM_SIZE_BYTES}
_MEMORY_FORMATS = {
    "contiguous_format": torch.contiguous_format,
    "channels_last": torch.channels_last,
    "channels_last_3d": torch.channels_last_3d,
    "preserve_format": torch.preserve_format,
}

#: List arguments that say how many elements the result has: their product is bounded.
_SIZES = frozenset({"size", "sizes", "repeats", "dims", "output_size", "shape", "sections"})
#: Single numbers that do: the end of a range, the classes of a one-hot.
_COUNTS = frozenset({"n", "m", "steps", "num_classes", "repeats", "start", "end", "upscale_factor"})
_FACTORIES = frozenset({"arange", "linspace", "eye", "one_hot", "repeat_interleave", "pixel_shuffle"})
#: Lists of small numbers: no network pads, strides or dilates by more.
_STEPS = frozenset({"padding", "output_padding", "pad", "stride", "dilation", "kernel_size"})
_MAX_STEP = 2**16
_MAX_SCALE = 256.0


class GraphRefused(Exception):
    """The stored graph cannot be trusted or cannot serve this call; the message is one sentence."""


class Kind(Enum):
    """What a numbered value of the graph holds, known before anything runs."""

    TENSOR = auto()
    SEQUENCE = auto()  #: a tuple or list of tensors; only ``getitem`` and the output may take it
    INTEGER = auto()  #: a whole number made of sizes


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of that number."""

    number: int


def kind_of_result(overload: Any) -> Kind:
    """What an operator's schema says it returns."""
    returns = [str(result.real_type) for result in overload._schema.returns]
    return Kind.TENSOR if returns == ["Tensor"] else Kind.SEQUENCE


def whole_number(value: Any, below: int) -> int | None:
    """Return the value when it is an integer from 0 to below that bound, else None."""
    return value if type(value) is int and 0 <= value < below else None


def argument(operator: str, formal: Any, value: Any, kinds: list[Kind], device: torch.device) -> Any:
    """Check one argument and return it as the operator takes it, values still as Refs.

    Args:
        operator: the overload's name, on the list already.
        formal: the argument of its schema.
        value: the JSON form.
        kinds: of the values that exist before this node.
        device: what every device argument becomes.

    Raises:
        GraphRefused: of another kind than the schema wants, or outside the bounds.
    """
    checked = _typed(str(formal.real_type), operator, formal.name, value, kinds, device)
    if (operator, formal.name) in NEVER_GIVEN and checked is not None:
        raise GraphRefused(f"{operator} may not be given a {formal.name!r}.")
    if formal.name == "pin_memory" and checked:
        raise GraphRefused(f"{operator} asks for pinned memory.")
    check_extent(operator, formal.name, checked)
    return checked


def constant(entry: Any, device: torch.device) -> torch.Tensor:
    """Build a constant from its JSON form; on the meta device ``data`` is not read.

    Raises:
        GraphRefused: an unknown dtype, a shape that is none, or bytes that do not fill it.
    """
    match entry:
        case {"dtype": str() as dtype, "shape": list() as shape, "data": data} if dtype in _DTYPES:
            sizes = [whole_number(size, 2**40) for size in shape]
            whole = tuple(size for size in sizes if size is not None)
            if len(whole) == len(shape) <= MAX_DIMENSIONS and math.prod(whole) < 2**40:
                if device.type == "meta":
                    return torch.empty(whole, dtype=_DTYPES[dtype], device="meta")
                content = _decoded(data)
                if len(content) == math.prod(whole) * ITEM_SIZE_BYTES[dtype] <= MAX_CONSTANT_BYTES:
                    if not content:
                        return torch.zeros(whole, dtype=_DTYPES[dtype], device=device)
                    return torch.frombuffer(bytearray(content), dtype=_DTYPES[dtype]).reshape(whole).clone().to(device)
    raise GraphRefused("A constant or input of the graph has no valid dtype, shape and bytes.")


def _decoded(data: Any) -> bytes:
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else b"?"
    except ValueError:
        return b"?"


def _typed(kind: str, operator: str, name: str, value: Any, kinds: list[Kind], device: torch.device) -> Any:
    if kind.startswith("Optional[") and value is None:
        return None
    kind = kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind
    if kind.startswith("List["):
        inner = kind.removeprefix("List[").removesuffix("]")
        if isinstance(value, dict) and isinstance(items := value.get("list"), list) and len(items) <= MAX_LIST:
            return [_typed(inner, operator, name, item, kinds, device) for item in items]
        if inner in ("int", "float") and type(value) in (int, float):
            return _typed(inner, operator, name, value, kinds, device)
    else:
        checked = _single(kind, operator, name, value, kinds, device)
        if checked is not _NOT_PERMITTED:
            return checked
    raise GraphRefused(f"{operator} is given a {name[:100]!r} of another kind than it may take.")


_NOT_PERMITTED = object()


def _single(kind: str, operator: str, name: str, value: Any, kinds: list[Kind], device: torch.device) -> Any:
    match kind, value:
        case (("Tensor" | "int" | "number"), {"ref": number}) if (
            whole := whole_number(number, len(kinds))
        ) is not None:
            # Where an operator takes a tensor, it takes a number too.
            permitted = (Kind.TENSOR, Kind.INTEGER) if kind == "Tensor" else (Kind.INTEGER,)
            return Ref(whole) if kinds[whole] in permitted else _NOT_PERMITTED
        case "Tensor" | "number", bool() | int() | float():
            return _number(value)
        case "Tensor" | "number" | "float", {"float": "nan" | "inf" | "-inf" as written}:
            return float(written)
        case ("int" | "SymInt", int()) if type(value) is int:
            return _number(value)
        case ("float", int() | float()) if type(value) is not bool:
            return _number(value)
        case "bool", bool():
            return value
        case "ScalarType", {"dtype": str() as dtype} if dtype in _DTYPES:
            return _DTYPES[dtype]
        case "Device", {"device": "cpu" | "cuda"}:
            return device
        case "Layout", {"layout": "strided"}:
            return torch.strided
        case "MemoryFormat", {"memory_format": str() as memory_format} if memory_format in _MEMORY_FORMATS:
            return _MEMORY_FORMATS[memory_format]
        case "str", str() if value in STRING_ARGUMENTS.get((operator, name), ()):
            return value
        case "str", str() if (operator, name) == ("aten.einsum.default", "equation") and EQUATION.fullmatch(value):
            return value
    return _NOT_PERMITTED


def _number(value: Any) -> Any:
    return value if not isinstance(value, int) or -(2**63) <= value < 2**63 else _NOT_PERMITTED


def check_extent(operator: str, name: str, value: Any) -> None:
    """Refuse what asks for more memory than any recorded frame needs; the rest is the worker's memory limit."""
    numbers = [item for item in value if type(item) in (int, float)] if isinstance(value, list) else []
    too_much = (
        (name in _SIZES and math.prod(abs(item) for item in numbers if item) > MAX_ELEMENTS)
        or (name in _STEPS and any(abs(item) > _MAX_STEP for item in numbers))
        or (name == "scale_factors" and any(not 0 < item <= _MAX_SCALE for item in numbers))
        or (
            name in _COUNTS
            and operator.split(".")[1] in _FACTORIES
            and type(value) in (int, float)
            and not abs(value) <= MAX_ELEMENTS
        )
    )
    if too_much:
        raise GraphRefused(f"{operator} asks for more than a recorded model needs ({name} is too large).")
