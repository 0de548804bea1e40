"""Tensors as bytes: which array they mean, and in which order they lay in memory."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.bundle.values import size_in_bytes

__all__ = ["dense_order", "logical_array", "size_in_bytes", "to_array"]

Array = npt.NDArray[Any]

#: Formats numpy lacks; their bytes are read as unsigned integers and become the same numbers in float32.
_WIDENED = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})


def to_array(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return the array that little-endian C-order bytes mean.

    The result is read-only where it shares ``data``. bfloat16 and both float8 formats become the same numbers in
    float32, exactly.

    Args:
        data: size_in_bytes(dtype, shape) bytes.
        dtype: one of values.DTYPES.
        shape: may be empty (a scalar) or hold zeros.

    Raises:
        ValueError: the length of ``data`` does not fit.
    """
    if dtype not in _WIDENED:
        numpy_dtype = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(data, dtype=numpy_dtype).reshape(shape) if len(data) else np.empty(shape, numpy_dtype)
    if dtype == "bfloat16":
        bits = np.frombuffer(data, dtype="<u2").astype("<u4") << 16 if len(data) else np.empty(0, "<u4")
        return bits.view("<f4").reshape(shape)
    codes = np.frombuffer(data, dtype=np.uint8) if len(data) else np.empty(0, np.uint8)
    widened: Array = _float8_numbers(dtype)[codes].reshape(shape)
    return widened


@functools.cache
def _float8_numbers(dtype: str) -> Array:
    """The 256 numbers of a float8 format (OCP 8-bit floating point specification, 1.0)."""
    codes = np.arange(256, dtype=np.uint16)
    if dtype == "float8_e5m2":  # the upper byte of a float16
        return (codes << 8).view(np.float16).astype(np.float32)
    exponent, mantissa = (codes >> 3) & 15, (codes & 7).astype(np.float32)
    normal = np.ldexp(1 + mantissa / 8, exponent.astype(np.int32) - 7)
    subnormal = np.ldexp(mantissa / 8, -6)
    numbers = np.where(exponent == 0, subnormal, normal).astype(np.float32)
    numbers[(codes & 127) == 127] = np.nan  # the format's only NaN, and it has no infinity
    return np.copysign(numbers, np.where(codes & 128, np.float32(-1), np.float32(1)))


def dense_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the dimensions from slowest to fastest in memory, or None when the strides leave gaps or overlap.

    ``()`` of a dense tensor with at most one element is C order. Strides of dimensions of size one do not matter.

    Args:
        shape: sizes.
        strides: in elements, one for each size.
    """
    if 0 in shape:
        return tuple(range(len(shape)))
    # Dimensions of size one have no place in memory: they go first, in their own order.
    order = sorted(range(len(shape)), key=lambda d: (shape[d] > 1, -strides[d] if shape[d] > 1 else 0, d))
    expected = 1
    for dimension in reversed(order):
        if shape[dimension] > 1:
            if strides[dimension] != expected:
                return None
            expected *= shape[dimension]
    return tuple(order)


def logical_array(data: bytes | memoryview, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """Return the array as the host indexed it, from bytes in the order of values.TensorValue.

    Bytes of a dense permuted tensor (channels_last) are in memory order and come back as a transposed view; bytes of
    any other tensor are in C order.
    """
    order = dense_order(shape, strides)
    if order is None or order == tuple(range(len(shape))):
        return to_array(data, dtype, shape)
    return to_array(data, dtype, tuple(shape[d] for d in order)).transpose(np.argsort(order))
