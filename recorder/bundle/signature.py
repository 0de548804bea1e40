"""Which calls one exported graph can serve: the signature of a call's arguments, and their form, sizes left out."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["call_form", "call_signature"]


def call_signature(args: dict[str, Any], kwargs: dict[str, Any], state: dict[str, Any] | None = None) -> str:
    """Return the sha256 hex of what an exported graph specialises on: structure, dtypes, shapes and plain values.

    Strides, alignment, device and the bytes do not count.

    Args:
        args: the positional arguments in their tagged JSON form (recorder.bundle.values).
        kwargs: the keyword arguments, likewise.
        state: the model's state before the call, likewise; None where it has none.
    """
    parts = [args, kwargs] if state is None else [args, kwargs, state]
    return _digest([_shape_of(part) for part in parts])


def call_form(args: dict[str, Any], kwargs: dict[str, Any], state: dict[str, Any] | None = None) -> str:
    """Return the sha256 hex of what a graph that serves inputs of several sizes specialises on.

    The signature with the number of dimensions in the place of each argument's shape; the state keeps its shapes.

    Args:
        args, kwargs, state: as for `call_signature`.
    """
    parts = [_shape_of(part, sizes=False) for part in (args, kwargs)]
    return _digest(parts if state is None else [*parts, _shape_of(state)])


def _digest(parts: list[Any]) -> str:
    canonical = json.dumps(parts, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _shape_of(value: dict[str, Any], *, sizes: bool = True) -> Any:
    [(tag, content)] = value.items()
    match tag:
        case "tensor":
            shape = content["shape"]
            return {"tensor": [content["dtype"], list(shape) if sizes else len(shape)]}
        case "tuple" | "list":
            return {tag: [_shape_of(item, sizes=sizes) for item in content]}
        case "dict":
            return {"dict": [[key, _shape_of(item, sizes=sizes)] for key, item in content]}
        case "record":
            fields = [[name, _shape_of(item, sizes=sizes)] for name, item in content["fields"]]
            return {"record": [content["type"], fields]}
        case _:
            return value
