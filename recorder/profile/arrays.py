"""Arrays in a profile's JSON: little-endian bytes in base64, with a shape that is checked."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["packed", "unpacked"]

#: No number of a sound profile is larger.
_LARGEST = 1e9


def packed(array: npt.NDArray[Any], dtype: str = "<f4") -> dict[str, Any]:
    """Return an array as data; float32 is precise enough for statistics, and half the size."""
    data = np.ascontiguousarray(array, dtype).tobytes()
    return {"shape": list(array.shape), "data": base64.b64encode(data).decode("ascii")}


def unpacked(given: Any, shape: tuple[int, ...], dtype: str = "<f4") -> npt.NDArray[np.float64]:
    """Read an array of exactly this shape.

    Raises:
        ValueError: it has another shape, too few or too many bytes, or numbers that are not finite.
    """
    if not isinstance(given, dict) or given.get("shape") != list(shape):
        raise ValueError("the profile holds an array of another shape than it must have; make it again")
    text, size = given.get("data"), int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not isinstance(text, str) or len(text) != 4 * -(-size // 3):
        raise ValueError("the profile holds an array that is cut or too long; make it again")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("the profile holds an array that is not base64; make it again") from error
    if len(data) != size:
        raise ValueError("the profile holds an array that is cut or too long; make it again")
    array = np.frombuffer(data, dtype).reshape(shape).astype(np.float64)
    if not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > _LARGEST:
        raise ValueError("the profile holds numbers that are not finite; make it again")
    return array
