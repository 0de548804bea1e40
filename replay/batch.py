"""Items of a batch: which tensors of a recorded value hold one row an item, and a value of some of the items only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from recorder.bundle.values import TensorValue, Value, map_tensors, tensors_of
from replay.compare.comparison import Answer

__all__ = ["batch_size", "is_batch", "rows_of", "take_items"]


def is_batch(tensor: TensorValue, count: int) -> bool:
    """Whether a tensor holds ``count`` items that follow each other in its bytes."""
    inner = math.prod(tensor.shape[1:])
    return bool(tensor.shape) and tensor.shape[0] == count and (count == 1 or tensor.strides[0] == inner)


def batch_size(value: Value) -> int | None:
    """The number of items of a value all of whose tensors are batches of the same size; None where they are not."""
    sizes = {tensor.shape[0] if tensor.shape else 0 for _, tensor in tensors_of(value)}
    if len(sizes) != 1:
        return None
    [count] = sizes
    return count if count and all(is_batch(tensor, count) for _, tensor in tensors_of(value)) else None


def rows_of(data: bytes, count: int, items: Sequence[int]) -> bytes:
    """The bytes of some items of a batch, one after the other."""
    size = len(data) // count
    return b"".join(data[item * size : (item + 1) * size] for item in items)


def take_items(answer: Answer, count: int, items: Sequence[int]) -> Answer:
    """A value with only some items of its batches; tensors that are no batch of ``count`` items stay whole.

    Args:
        answer: a value with its bytes.
        count: the size of the batch.
        items: which to keep, in that order.
    """
    if answer.value is None:
        return answer
    tensors = dict(answer.tensors)
    for path, tensor in tensors_of(answer.value):
        if is_batch(tensor, count):
            tensors[path] = rows_of(answer.tensors[path], count, items)

    def fewer(tensor: TensorValue) -> Value:
        if not is_batch(tensor, count):
            return tensor
        return replace(
            tensor, shape=(len(items), *tensor.shape[1:]), size_bytes=tensor.size_bytes // count * len(items)
        )

    return Answer(value=map_tensors(answer.value, fewer), tensors=tensors)
