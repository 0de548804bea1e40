"""Tensors that came from 8-bit images: codes into a table of each channel's distinct values.

256 distinct values a channel, whatever the normalisation made of them. Values are compared as unsigned integers, so
every bit pattern survives, NaN payloads and -0 included. ``table`` and ``planes`` differ in how the codes are stored:
as differences to the one before, or to the channel before and the row above. Both are specified in schemas/FORMAT.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import MAX_TABLE_CHANNELS

__all__ = ["UNSIGNED", "Coded", "code_values", "decode_planes", "decode_table", "encode_planes", "encode_table"]

Array = npt.NDArray[Any]

#: Item size to the type that its values are compared as.
UNSIGNED = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}

_MAX_VALUES = 256
_SAMPLE_ELEMENTS = 4096

#: Fibonacci hashing: odd multipliers near 2**64 over the golden ratio; two or three of them serve nearly every table.
_HASHES = 2**16
_MULTIPLIERS = tuple(0x9E3779B97F4A7C15 + 0x6A09E667F3BCC908 * i for i in range(8))

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_DAMAGED = "a tensor's value table is damaged; do not open this bundle"


@dataclass(frozen=True, slots=True)
class Coded:
    """A tensor as tables and codes."""

    run: int  #: items of one channel that follow each other
    tables: Sequence[Array]  #: of each channel: its distinct values, ascending
    codes: Array  #: uint8, channels x items of one


def code_values(data: memoryview, item_bytes: int, channels: int, run: int) -> Coded | None:
    """Find tables and codes, or return None when a channel has more than 256 distinct values."""
    items = np.frombuffer(data, UNSIGNED[item_bytes])
    if not items.size:
        return None
    by_channel = items.reshape(-1, channels, run).transpose(1, 0, 2).reshape(channels, -1)
    codes = np.empty(by_channel.shape, np.uint8)
    tables = []
    for row, values in zip(codes, by_channel, strict=True):
        coded = _codes(values)
        if coded is None:
            return None
        tables.append(coded[0])
        row[:] = coded[1]
    return Coded(run, tables, codes)


def encode_table(coded: Coded) -> bytes:
    """Each code as its difference to the one before in its channel."""
    differences = coded.codes.copy()
    np.subtract(coded.codes[:, 1:], coded.codes[:, :-1], out=differences[:, 1:])
    return _pack(struct.pack("<II", len(coded.tables), coded.run), coded.tables, differences)


def decode_table(member: bytes | memoryview, item_bytes: int, size_bytes: int) -> bytes:
    """Undo `encode_table`.

    Raises:
        BundleInvalid: the member is not such an encoding of so many bytes.
    """
    if len(member) < 8:
        raise BundleInvalid(_DAMAGED)
    channels, run = struct.unpack_from("<II", member)
    tables, rest = _unpack(member, 8, channels, run, item_bytes, size_bytes)
    differences = rest.reshape(channels, -1)
    items = np.empty((differences.shape[1] // run, channels, run), UNSIGNED[item_bytes])
    for channel, table in enumerate(tables):
        codes = np.add.accumulate(differences[channel], dtype=np.uint8)
        items[:, channel] = _looked_up(table, codes).reshape(-1, run)
    return items.tobytes()


def encode_planes(coded: Coded, width: int, dtype: str) -> bytes:
    """Each channel less the one before, then each row less the one above.

    What channels of a photograph have in common goes, and so does what neighbours have in common. Values are put in
    the order of the numbers they mean, so that close numbers have close codes, and stored as differences: a scale has
    steps of nearly equal length.
    """
    channels, run = len(coded.tables), coded.run
    ordered, codes = [], np.empty_like(coded.codes)
    for channel, table in enumerate(coded.tables):
        order = _numeric_order(table, dtype)
        place = np.empty(len(order), np.uint8)
        place[order] = np.arange(len(order))
        ordered.append(table[order])
        codes[channel] = place[coded.codes[channel]]
    rows = codes.reshape(channels, -1, run // width, width).transpose(1, 0, 2, 3)
    across = rows.copy()
    across[:, 1:] -= rows[:, :-1]
    down = across.copy()
    down[:, :, 1:] -= across[:, :, :-1]
    steps = [np.diff(table, prepend=table.dtype.type(0)) for table in ordered]
    return _pack(struct.pack("<III", channels, run // width, width), steps, down)


def decode_planes(member: bytes | memoryview, item_bytes: int, size_bytes: int) -> bytes:
    """Undo `encode_planes`.

    Raises:
        BundleInvalid: the member is not such an encoding of so many bytes.
    """
    if len(member) < 12:
        raise BundleInvalid(_DAMAGED)
    channels, height, width = struct.unpack_from("<III", member)
    tables, rest = _unpack(member, 12, channels, height * width, item_bytes, size_bytes)
    down = rest.reshape(-1, channels, height, width)
    items = np.empty(down.shape, UNSIGNED[item_bytes])
    codes = np.zeros((len(down), height, width), np.uint8)
    for channel, steps in enumerate(tables):
        table = np.add.accumulate(steps, dtype=steps.dtype)
        codes += np.add.accumulate(down[:, channel], axis=1, dtype=np.uint8)
        items[:, channel] = _looked_up(table, codes)
    return items.tobytes()


def _pack(head: bytes, tables: Sequence[Array], codes: Array) -> bytes:
    counts = np.array([len(table) for table in tables], "<u2").tobytes()
    return b"".join([head, counts, *(table.tobytes() for table in tables), codes.tobytes()])


def _unpack(
    member: bytes | memoryview, start: int, channels: int, run: int, item_bytes: int, size_bytes: int
) -> tuple[list[Array], Array]:
    """The tables, and the stored codes behind them."""
    wrong = BundleInvalid(_DAMAGED)
    if item_bytes not in UNSIGNED or not 1 <= channels <= MAX_TABLE_CHANNELS or not run:
        raise wrong
    count = size_bytes // item_bytes
    if not count or count % (channels * run) or len(member) < start + 2 * channels:
        raise wrong
    lengths = np.frombuffer(member, "<u2", channels, start).astype(np.int64)
    start += 2 * channels
    codes_at = start + int(lengths.sum()) * item_bytes
    if lengths.min() < 1 or lengths.max() > _MAX_VALUES or len(member) != codes_at + count:
        raise wrong
    values = np.frombuffer(member, UNSIGNED[item_bytes], int(lengths.sum()), start)
    return np.split(values, np.cumsum(lengths)[:-1]), np.frombuffer(member, np.uint8, count, codes_at)


def _looked_up(table: Array, codes: Array) -> Array:
    if codes.max() >= len(table):
        raise BundleInvalid(_DAMAGED)
    values: Array = table[codes]
    return values


def _numeric_order(table: Array, dtype: str) -> Array:
    """Where each value of a table goes, by the number it means; what is no float stays in the order of its bits."""
    if dtype not in _FLOATS:
        return np.arange(len(table))
    sign = table.dtype.type(1 << (8 * table.itemsize - 1))
    negative = table >= sign
    order: Array = np.argsort(np.where(negative, ~table, table | sign), kind="stable")
    return order


def _codes(values: Array) -> tuple[Array, Array] | None:
    """Return the distinct values in ascending order and each element's place among them (uint8).

    None when there are more than 256. The table grows from samples, and one look-up by a hash without collisions finds
    and checks all codes: several times faster than sorting.
    """
    table = np.unique(values[:: max(1, values.size // _SAMPLE_ELEMENTS)])
    while len(table) <= _MAX_VALUES:
        multiplier = _collision_free(table)
        if multiplier is None:
            codes = np.minimum(np.searchsorted(table, values), len(table) - 1).astype(np.uint8)
        else:
            places = np.zeros(_HASHES, np.uint8)
            places[_hash(table, multiplier)] = np.arange(len(table))
            codes = places[_hash(values, multiplier)]
        missed = values[table[codes] != values]
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
