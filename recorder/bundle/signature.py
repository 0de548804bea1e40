"""Which calls one exported graph can serve: the signature of a call's arguments."""

from __future__ import annotations

import hashlib
import json
from typing import Any

__all__ = ["call_signature"]


def call_signature(args: dict[str, Any], kwargs: dict[str, Any], state: dict[str, Any] | None = None) -> str:
    """Return the sha256 hex of what an exported graph specialises on: structure, dtypes, shapes and plain values.

    Strides, alignment, device and the bytes do not count.

    Args:
        args: the positional arguments in their tagged JSON form (recorder.bundle.values).
        kwargs: the keyword arguments, likewise.
        state: the model's state before the call, likewise; None where it has none.
    """
    parts = [args, kwargs] if state is None else [args, kwargs, state]
    canonical = json.dumps([_shape_of(part) for part in parts], separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _shape_of(value: dict[str, Any]) -> Any:
    [(tag, content)] = value.items()
    match tag:
        case "tensor":
            return {"tensor": [content["dtype"], list(content["shape"])]}
        case "tuple" | "list":
            return {tag: [_shape_of(item) for item in content]}
        case "dict":
            return {"dict": [[key, _shape_of(item)] for key, item in content]}
        case "record":
            fields = [[name, _shape_of(item)] for name, item in content["fields"]]
            return {"record": [content["type"], fields]}
        case _:
            return value
