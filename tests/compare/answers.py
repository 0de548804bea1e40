"""Answers for the tests, built from numpy arrays the way a recording describes them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from recorder.bundle.tensors import dense_order
from recorder.bundle.values import (
    MappingValue,
    OpaqueValue,
    RecordValue,
    ScalarValue,
    SequenceValue,
    TensorValue,
    Value,
)
from replay.compare.comparison import Answer


class Unknown:
    """Stands for an object the recorder could not capture."""


class Boxes:
    """Stands for a dataclass of tensors."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields


def answer(thing: Any) -> Answer:
    """Describe nested tuples, lists, dicts, `Boxes`, arrays, scalars and `Unknown` as a recorded answer."""
    tensors: dict[str, bytes] = {}
    return Answer(value=_describe(thing, "", tensors), tensors=tensors)


def tensor_value(array: np.ndarray, dtype: str | None = None) -> tuple[TensorValue, bytes]:
    """Describe one array; ``dtype`` renames it (uint16 patterns that are bfloat16)."""
    strides = tuple(stride // array.itemsize for stride in array.strides)
    order = dense_order(array.shape, strides)
    data = (array if order is None else array.transpose(order)).tobytes()
    value = TensorValue(
        container="torch",
        dtype=dtype or array.dtype.name,
        shape=array.shape,
        strides=strides,
        alignment=0,
        device="cpu",
        member="tensors/t000000.bin",
        offset=0,
        size_bytes=len(data),
        encoding="raw",
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return value, data


def _describe(thing: Any, path: str, tensors: dict[str, bytes]) -> Value:
    match thing:
        case np.ndarray():
            value, tensors[path] = tensor_value(thing)
            return value
        case (str() as dtype, np.ndarray() as array):
            value, tensors[path] = tensor_value(array, dtype)
            return value
        case tuple() | list():
            items = tuple(_describe(item, f"{path}[{i}]", tensors) for i, item in enumerate(thing))
            return SequenceValue(form=type(thing).__name__, items=items)
        case dict():
            return MappingValue(
                items=tuple((key, _describe(item, f"{path}[{key!r}]", tensors)) for key, item in thing.items())
            )
        case Boxes():
            fields = tuple((name, _describe(item, f"{path}.{name}", tensors)) for name, item in thing.fields.items())
            return RecordValue(type="tests.Boxes", form="dataclass", fields=fields)
        case Unknown():
            return OpaqueValue(type="tests.Unknown")
        case _:
            return ScalarValue(value=thing)
