"""How a tensor's bytes become a member's bytes: raw, shuffled, or codes into a table of their distinct values.

All three are exact for every bit pattern. ``table`` serves what came from 8-bit images: 256 distinct values a channel,
whatever the normalisation made of them. The algorithms are specified in schemas/FORMAT.md.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import KIB, MAX_TABLE_CHANNELS
from recorder.bundle.tensors import dense_order
from recorder.bundle.values import ITEM_SIZE_BYTES

__all__ = ["decode", "encode"]

Array = npt.NDArray[Any]

_UNSIGNED = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}
_TABLE_HEADER = struct.Struct("<II")  # channels, elements of one channel that follow each other
_MAX_VALUES = 256
_MAX_CHANNELS = 16  # beyond, the dimension is no colour or feature of an image

#: Enough to see how a filter does, little enough to cost nothing.
_SAMPLE_BYTES = 64 * KIB
_SAMPLE_ELEMENTS = 4096

#: Fibonacci hashing: odd multipliers near 2**64 over the golden ratio; two or three of them serve nearly every table.
_HASHES = 2**16
_MULTIPLIERS = tuple(0x9E3779B97F4A7C15 + 0x6A09E667F3BCC908 * i for i in range(8))

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
    if item_bytes in _UNSIGNED:
        table = _encode_table(data, item_bytes, *_channels(shape, strides))
        if table is not None and _middle_ratio(table) / item_bytes < raw_ratio * _WORTHWHILE:
            return "table", table
    if item_bytes > 1 and _compressed(_shuffle(sample, item_bytes)) / max(1, len(sample)) < raw_ratio * _WORTHWHILE:
        return "shuffle", _shuffle(data, item_bytes)
    return "raw", data


def decode(member: bytes | memoryview, encoding: str, item_bytes: int, size_bytes: int) -> bytes | memoryview:
    """Return a tensor's bytes from a member's.

    Raises:
        BundleInvalid: the member is not such an encoding of so many bytes.
    """
    if encoding == "table":
        return _decode_table(member, item_bytes, size_bytes)
    if len(member) != size_bytes:
        raise BundleInvalid("a tensor's member has another length than its shape needs; do not open this bundle")
    if encoding == "shuffle":
        planes = np.frombuffer(member, np.uint8).reshape(item_bytes, -1)
        return planes.T.tobytes()
    return member


def _shuffle(data: memoryview, item_bytes: int) -> bytes:
    """All first bytes of the items, then all second bytes, and so on."""
    return np.frombuffer(data, np.uint8).reshape(-1, item_bytes).T.tobytes()


def _channels(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Guess the channel dimension from the shape in memory: how many channels, how many elements run in one."""
    order = dense_order(shape, strides)
    sizes = [shape[d] for d in order] if order is not None else list(shape)
    sizes = [size for size in sizes if size != 1]
    if len(sizes) >= 3 and sizes[-3] <= _MAX_CHANNELS:
        return sizes[-3], sizes[-2] * sizes[-1]
    if len(sizes) >= 2 and sizes[-1] <= _MAX_CHANNELS:
        return sizes[-1], 1
    return 1, math.prod(sizes)


def _encode_table(data: memoryview, item_bytes: int, channels: int, run: int) -> bytes | None:
    """Encode, or return None when a channel has more than 256 distinct values."""
    items = np.frombuffer(data, _UNSIGNED[item_bytes])
    if not items.size:
        return None
    planes = items.reshape(-1, channels, run).transpose(1, 0, 2).reshape(channels, -1)
    codes = np.empty(planes.shape, np.uint8)
    tables = []
    for row, plane in zip(codes, planes, strict=True):
        coded = _codes(plane)
        if coded is None:
            return None
        table, found = coded
        tables.append(table)
        row[0] = found[0]
        np.subtract(found[1:], found[:-1], out=row[1:])
    counts = np.array([len(table) for table in tables], "<u2")
    values = b"".join(table.tobytes() for table in tables)
    return b"".join([_TABLE_HEADER.pack(channels, run), counts.tobytes(), values, codes.tobytes()])


def _codes(plane: Array) -> tuple[Array, Array] | None:
    """Return the distinct values in ascending order and each element's place among them (uint8).

    None when there are more than 256. The table grows from samples, and one look-up by a hash without collisions finds
    and checks all codes: several times faster than sorting.
    """
    table = np.unique(plane[:: max(1, plane.size // _SAMPLE_ELEMENTS)])
    while len(table) <= _MAX_VALUES:
        multiplier = _collision_free(table)
        if multiplier is None:
            codes = np.minimum(np.searchsorted(table, plane), len(table) - 1).astype(np.uint8)
        else:
            places = np.zeros(_HASHES, np.uint8)
            places[_hash(table, multiplier)] = np.arange(len(table))
            codes = places[_hash(plane, multiplier)]
        missed = plane[table[codes] != plane]
        if not missed.size:
            return table, codes
        table = np.union1d(table, missed[:_SAMPLE_ELEMENTS])
    return None


def _collision_free(table: Array) -> int | None:
    """A multiplier that hashes all values to different places."""
    for multiplier in _MULTIPLIERS:
        if len(np.unique(_hash(table, multiplier))) == len(table):
            return multiplier
    return None


def _hash(items: Array, multiplier: int) -> Array:
    """The upper 16 bits of the product; items of one or two bytes are their own hash."""
    if items.itemsize <= 2:
        return items
    product = items * items.dtype.type(multiplier % 2 ** (8 * items.itemsize))
    upper: Array = product >> items.dtype.type(8 * items.itemsize - 16)
    return upper


def _decode_table(member: bytes | memoryview, item_bytes: int, size_bytes: int) -> bytes:
    wrong = BundleInvalid("a tensor's value table is damaged; do not open this bundle")
    if item_bytes not in _UNSIGNED or len(member) < _TABLE_HEADER.size:
        raise wrong
    channels, run = _TABLE_HEADER.unpack_from(member)
    count = size_bytes // item_bytes
    if not 1 <= channels <= MAX_TABLE_CHANNELS or not run or not count or count % (channels * run):
        raise wrong
    if len(member) < 8 + 2 * channels:
        raise wrong
    lengths = np.frombuffer(member, "<u2", channels, 8).astype(np.int64)
    start = 8 + 2 * channels
    codes_at = start + int(lengths.sum()) * item_bytes
    if lengths.min() < 1 or lengths.max() > _MAX_VALUES or len(member) != codes_at + count:
        raise wrong
    codes = np.frombuffer(member, np.uint8, count, codes_at).reshape(channels, -1)
    items = np.empty((count // (channels * run), channels, run), _UNSIGNED[item_bytes])
    for channel in range(channels):
        table = np.frombuffer(member, _UNSIGNED[item_bytes], lengths[channel], start)
        start += int(lengths[channel]) * item_bytes
        places = np.add.accumulate(codes[channel], dtype=np.uint8)
        if places.max() >= len(table):
            raise wrong
        items[:, channel] = table[places].reshape(-1, run)
    return items.tobytes()


def _compressed(data: bytes | memoryview) -> int:
    return len(zstandard.ZstdCompressor(level=1).compress(data))


def _middle_ratio(member: bytes) -> float:
    middle = member[len(member) // 2 : len(member) // 2 + _SAMPLE_BYTES]
    return _compressed(middle) / max(1, len(middle))
