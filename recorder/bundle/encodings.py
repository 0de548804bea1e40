"""How a tensor's bytes become a member's bytes: raw, shuffled, or codes into a table of their distinct values.

All are exact for every bit pattern. The algorithms are specified in schemas/FORMAT.md.
"""

from __future__ import annotations

import math

import numpy as np
import zstandard

from recorder.bundle import tables
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import KIB
from recorder.bundle.tensors import dense_order
from recorder.bundle.values import ITEM_SIZE_BYTES

__all__ = ["decode", "encode"]

_MAX_CHANNELS = 16  # beyond, the dimension is no colour or feature of an image

#: Enough to see how a filter does, little enough to cost nothing.
_SAMPLE_BYTES = 64 * KIB

#: A filter must save this much over raw bytes: readers without numpy undo it slowly.
_WORTHWHILE = 0.95


def encode(
    data: memoryview, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[str, bytes | memoryview]:
    """Choose an encoding on a sample and apply it.

    Args:
        data: the tensor's bytes as values.TensorValue describes them.
        dtype: one of values.DTYPES.
        shape: sizes.
        strides: in elements.

    Returns:
        The encoding's name and the member's bytes (``data`` itself for "raw").
    """
    item_bytes = ITEM_SIZE_BYTES[dtype]
    start = max(0, data.nbytes - _SAMPLE_BYTES) // 2 // item_bytes * item_bytes
    sample = data[start : start + _SAMPLE_BYTES // item_bytes * item_bytes]
    raw_ratio = _compressed(sample) / max(1, len(sample))
    if item_bytes in tables.UNSIGNED:
        channels, height, width = _picture(shape, strides)
        coded = tables.code_values(data, item_bytes, channels, height * width)
        if coded is not None:
            name, member = "table", tables.encode_table(coded)
            if height > 1 and width > 1:
                planes = tables.encode_planes(coded, width, dtype)
                if _middle_ratio(planes) < _middle_ratio(member) * _WORTHWHILE:
                    name, member = "planes", planes
            if _middle_ratio(member) / item_bytes < raw_ratio * _WORTHWHILE:
                return name, member
    if item_bytes > 1 and _compressed(_shuffle(sample, item_bytes)) / max(1, len(sample)) < raw_ratio * _WORTHWHILE:
        return "shuffle", _shuffle(data, item_bytes)
    return "raw", data


def decode(member: bytes | memoryview, encoding: str, item_bytes: int, size_bytes: int) -> bytes | memoryview:
    """Return a tensor's bytes from a member's.

    Raises:
        BundleInvalid: the member is not such an encoding of so many bytes.
    """
    if encoding == "table":
        return tables.decode_table(member, item_bytes, size_bytes)
    if encoding == "planes":
        return tables.decode_planes(member, item_bytes, size_bytes)
    if len(member) != size_bytes:
        raise BundleInvalid("a tensor's member has another length than its shape needs; do not open this bundle")
    if encoding == "shuffle":
        by_place = np.frombuffer(member, np.uint8).reshape(item_bytes, -1)
        return by_place.T.tobytes()
    return member


def _shuffle(data: memoryview, item_bytes: int) -> bytes:
    """All first bytes of the items, then all second bytes, and so on."""
    return np.frombuffer(data, np.uint8).reshape(-1, item_bytes).T.tobytes()


def _picture(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int, int]:
    """Guess channels, height and width from the shape in memory; 1 x 1 where the channels of a pixel lie together."""
    order = dense_order(shape, strides)
    sizes = [shape[d] for d in order] if order is not None else list(shape)
    sizes = [size for size in sizes if size != 1]
    if len(sizes) >= 3 and sizes[-3] <= _MAX_CHANNELS:
        return sizes[-3], sizes[-2], sizes[-1]
    if len(sizes) >= 2 and sizes[-1] <= _MAX_CHANNELS:
        return sizes[-1], 1, 1
    return 1, math.prod(sizes[:-1]), math.prod(sizes[-1:])


def _compressed(data: bytes | memoryview) -> int:
    return len(zstandard.ZstdCompressor(level=1).compress(data))


def _middle_ratio(member: bytes) -> float:
    middle = member[len(member) // 2 : len(member) // 2 + _SAMPLE_BYTES]
    return _compressed(middle) / max(1, len(middle))
