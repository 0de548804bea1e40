"""From a tensor's bytes, in the order they lay in memory, to the array a program would have indexed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.values import ITEM_SIZE_BYTES

__all__ = ["Array", "elements", "logical_bits", "memory_order", "real_values"]

Array = NDArray[Any]

#: Numpy has no name for these: their elements become float32, which holds each of them exactly.
_UPCAST = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})


def memory_order(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...] | None:
    """Return the axes from the outermost to the innermost in memory, or None where the strides are not dense.

    A tensor is dense when its elements fill their memory without gap or overlap (C order, channels_last, any
    permutation). Strides of axes with fewer than two elements address nothing and are ignored.
    """
    moving = sorted((axis for axis in range(len(shape)) if shape[axis] > 1), key=lambda axis: (strides[axis], -axis))
    expected = 1
    for axis in moving:
        if strides[axis] != expected:
            return None
        expected *= shape[axis]
    still = [axis for axis in range(len(shape)) if shape[axis] <= 1]
    return (*still, *reversed(moving))


def logical_bits(data: bytes, dtype: str, shape: Sequence[int], strides: Sequence[int]) -> Array:
    """View bytes in memory order as an array of the logical shape; nothing is copied or interpreted.

    Elements are unsigned integers of the item's width (complex128 keeps its own type): pass them to `elements` for
    their values.

    Raises:
        ValueError: the number of bytes does not fit dtype and shape.
    """
    size_bytes = math.prod(shape) * ITEM_SIZE_BYTES[dtype]
    if len(data) != size_bytes:
        raise ValueError(f"a {dtype} tensor of shape {tuple(shape)} takes {size_bytes} bytes, not {len(data)}")
    width = ITEM_SIZE_BYTES[dtype]
    flat = np.frombuffer(data, dtype="<c16" if width == 16 else f"<u{width}")
    order = memory_order(shape, strides) if size_bytes else None
    if order is None:
        return flat.reshape(shape)
    return flat.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def elements(bits: Array, dtype: str) -> Array:
    """Interpret the result of `logical_bits`, or a part of it, as values of ``dtype``.

    Returns an array of the same shape; bfloat16 and float8 come back as float32, exactly.
    """
    if dtype in _UPCAST:
        from recorder.bundle.tensors import to_array

        values: Array = to_array(bits.tobytes(), dtype, bits.shape)
        return values
    return np.ascontiguousarray(bits).view(np.dtype(dtype).newbyteorder("<")).reshape(bits.shape)


def real_values(bits: Array, dtype: str) -> Array:
    """Interpret raw elements as float64; complex numbers become two along the last axis."""
    values = elements(bits, dtype)
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one, and that is fine
        return values.astype(np.float64)
