"""What is left of a model's arguments or answer when its content must not be seen: structure, shapes, keyed digests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from recorder.bundle.values import (
    MappingValue,
    OpaqueValue,
    RecordValue,
    RemovedValue,
    ScalarValue,
    SequenceValue,
    TensorValue,
    Value,
)

__all__ = ["without_content"]


def without_content(value: Value, digest: Callable[[TensorValue], str | None], *, keep_keys: bool = False) -> Value:
    """Return a value of which only the structure is left.

    Tensors keep container, dtype, shape and size; of scalars and objects it is only known that there was one. Names of
    a record's fields come from code and stay; keys of a dictionary may be labels or names of people, and become their
    positions.

    Args:
        value: what was recorded; parts that were removed before stay as they are.
        digest: gives "hmac-sha256:KEY:DIGEST" of a tensor's bytes, or None.
        keep_keys: whether the keys of the outermost dictionary stay: names of keyword arguments.
    """
    match value:
        case TensorValue():
            return RemovedValue(
                kind="tensor",
                container=value.container,
                dtype=value.dtype,
                shape=value.shape,
                size_bytes=value.size_bytes,
                digest=digest(value),
            )
        case SequenceValue(items=items):
            return replace(value, items=tuple(without_content(item, digest) for item in items))
        case MappingValue(items=pairs):
            kept = [key if keep_keys else place for place, (key, _) in enumerate(pairs)]
            items = tuple(without_content(item, digest) for _, item in pairs)
            return MappingValue(items=tuple(zip(kept, items, strict=True)))
        case RecordValue(fields=fields):
            return replace(value, fields=tuple((name, without_content(item, digest)) for name, item in fields))
        case ScalarValue():
            return RemovedValue(kind="scalar")
        case OpaqueValue():
            return RemovedValue(kind="object")
    return value
