"""From a tensor's bytes, in the order they lay in memory, to elements that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.tensors import dense_order, size_in_bytes, to_array
from recorder.bundle.values import ITEM_SIZE_BYTES, TensorValue

__all__ = ["Array", "logical_bits", "real_tensor", "real_values"]

Array = NDArray[Any]


def logical_bits(data: bytes, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """View bytes in memory order as an array of the logical shape; nothing is copied or interpreted.

    Elements are unsigned integers of the item's width, or complex128: pass them to `real_values` for their values.

    Raises:
        ValueError: the number of bytes does not fit dtype and shape.
    """
    if len(data) != size_in_bytes(dtype, shape):
        raise ValueError(
            f"a {dtype} tensor of shape {shape} takes {size_in_bytes(dtype, shape)} bytes, not {len(data)}"
        )
    width = ITEM_SIZE_BYTES[dtype]
    flat = np.frombuffer(data, dtype="<c16" if width == 16 else f"<u{width}")
    order = dense_order(shape, strides)
    if order is None:
        return flat.reshape(shape)
    return flat.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def real_values(bits: Array, dtype: str) -> Array:
    """Interpret raw elements as float64; a complex number becomes two along the last axis."""
    values = to_array(bits.tobytes(), dtype, bits.shape)
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one, and that is fine
        return values.astype(np.float64)


def real_tensor(data: bytes, tensor: TensorValue) -> Array:
    """A tensor's bytes in memory order as float64 in its logical shape.

    Raises:
        ValueError: the number of bytes does not fit dtype and shape.
    """
    return real_values(logical_bits(data, tensor.dtype, tensor.shape, tensor.strides), tensor.dtype)
