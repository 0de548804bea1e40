"""Boxes in a service's own answer, which often are plain lists where a model has tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from recorder.bundle.values import MappingValue, RecordValue, ScalarValue, SequenceValue, TensorValue, Value
from replay.compare.boxes import Boxes
from replay.compare.instances import instance_masks
from replay.compare.layout import Array, real_tensor

__all__ = ["plain_boxes"]

ReadTensor = Callable[[TensorValue], bytes]
Number = Callable[[str], int]


def plain_boxes(value: Value | None, read: ReadTensor, number: Number) -> Boxes | None:
    """The first group of ``boxes`` (N of x1 y1 x2 y2), ``scores`` and perhaps ``labels``, each a list or a tensor.

    And perhaps ``masks``, a tensor.

    Args:
        value: an answer.
        read: gives a tensor's bytes.
        number: gives the label for a class that is called by name.

    Raises:
        BundleError: a tensor cannot be read.
    """
    for parts in _groups(value):
        try:
            corners = _array(parts["boxes"], read, number).reshape(-1, 4)
            scores = _array(parts["scores"], read, number)
            labels = _array(parts["labels"], read, number) if "labels" in parts else np.zeros(len(corners))
        except (ValueError, TypeError, OverflowError):
            continue
        if scores.shape == labels.shape == (len(corners),):
            masks = parts.get("masks")
            if not isinstance(masks, TensorValue):
                return Boxes(corners, scores, labels)
            return Boxes(corners, scores, labels, instance_masks(read(masks), masks, len(corners)))
    return None


def _groups(value: Value | None) -> Iterator[dict[object, Value]]:
    members: tuple[Value, ...] = ()
    match value:
        case SequenceValue(items=items):
            members = items
        case MappingValue(items=pairs) | RecordValue(fields=pairs):
            parts: dict[object, Value] = dict(pairs)
            if "boxes" in parts and "scores" in parts:
                yield parts
            members = tuple(parts.values())
    for member in members:
        yield from _groups(member)


def _array(value: Value, read: ReadTensor, number: Number) -> Array:
    """float64 of a tensor, or of nested lists of numbers and names.

    Raises:
        ValueError, TypeError: it holds anything else, or is ragged.
    """
    if isinstance(value, TensorValue):
        if "complex" in value.dtype:
            raise TypeError("complex numbers are no boxes")
        return real_tensor(read(value), value)
    return np.asarray(_plain(value, number), dtype=np.float64)


def _plain(value: Value, number: Number) -> object:
    match value:
        case SequenceValue(items=items):
            return [_plain(item, number) for item in items]
        case ScalarValue(value=str() as name):
            return number(name)
        case ScalarValue(value=int() | float() as plain):
            return plain
    raise TypeError("neither numbers nor names")
