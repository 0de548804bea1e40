"""PNG files with numpy: filtered rows in stored deflate blocks, so that zstd around them does the entropy coding.

Any viewer opens them. One filter serves a whole image. Sources: PNG specification (third edition), RFC 1950, RFC 1951.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import MAX_IMAGE_PIXELS, MAX_PNG_CHUNKS

__all__ = ["choose_filter", "decode", "encode"]

Array = npt.NDArray[Any]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # grey, grey and alpha, RGB, RGBA
_CHANNELS = {colour: channels for channels, colour in _COLOUR_TYPES.items()}
_STORED_BYTES = 65535  # the longest stored block of deflate

#: Enough of a deflate stream to hold its first byte: the longest Huffman tables take some 300.
_PEEK_BYTES = 1024

NONE, SUB, UP, AVERAGE, PAETH = range(5)

#: Rows filtered at a time: the intermediate arrays stay in the second-level cache.
_CACHE_BYTES = 96 * 1024

#: How much smaller than with the best cheaper filter the result must be. Paeth takes three times the time, both ways.
_WORTHWHILE = {NONE: 1.0, SUB: 1.0, UP: 1.0, AVERAGE: 0.98, PAETH: 0.93}


def encode(pixels: Array, filter_type: int | None = None) -> bytes:
    """Return a PNG file of the pixels.

    Args:
        pixels: HW, or HWC with one to four channels; uint8 or uint16; no side of length zero.
        filter_type: 0 to 4 (none, sub, up, average, paeth); None chooses on a sample.
    """
    rows = _scan_lines(pixels)
    if filter_type is None:
        filter_type = choose_filter(pixels)
    step = (1 if pixels.ndim == 2 else pixels.shape[2]) * pixels.itemsize
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = filter_type
    _filter(rows, step, filter_type, filtered[:, 1:])
    colour = _COLOUR_TYPES[1 if pixels.ndim == 2 else pixels.shape[2]]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8 * pixels.itemsize, colour, 0, 0, 0)
    return b"".join([_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", _stored(filtered)), *_chunk(b"IEND", b"")])


def choose_filter(pixels: Array) -> int:
    """Try the filters on bands of rows and return the one whose bytes compress best for their cost."""
    height = pixels.shape[0]
    step = (1 if pixels.ndim == 2 else pixels.shape[2]) * pixels.itemsize
    band = max(2, min(8, height))
    starts = sorted({0, max(0, height // 2 - band // 2), max(0, height - band)})
    rows = [_scan_lines(pixels[start : start + band]) for start in starts]
    compressor = zstandard.ZstdCompressor(level=1)
    choice, smallest = NONE, float("inf")
    for filter_type, worthwhile in _WORTHWHILE.items():
        size = 0
        for lines in rows:
            out = np.empty_like(lines)
            _filter(lines, step, filter_type, out)
            size += len(compressor.compress(out[1:].tobytes() or out.tobytes()))
        if size < smallest * worthwhile:
            choice, smallest = filter_type, size
    return choice


def decode(data: bytes | memoryview, size: tuple[int, int] | None = None) -> Array | None:
    """Return the pixels of a PNG whose rows all have the filter none, sub or up; None for any other PNG.

    HW for grey, else HWC; uint8 or uint16. Checksums of chunks are not looked at: the file's digest was.

    Args:
        data: the file.
        size: width and height it must state, checked before anything is inflated.

    Raises:
        BundleInvalid: it claims to be such a file and is not.
    """
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if interlaced or depth not in (8, 16) or colour not in _CHANNELS or not width or not height:
        return None
    if (width, height) != (size or (width, height)) or width * height > MAX_IMAGE_PIXELS:
        raise BundleInvalid("a PNG member has another size than the manifest says; do not open this bundle")
    step = _CHANNELS[colour] * depth // 8
    length = height * (1 + width * step)
    inflate = zlib.decompressobj()
    try:
        compressed = _image_data(data)
        if zlib.decompressobj().decompress(compressed[:_PEEK_BYTES], 1) > bytes([UP]):
            return None  # average and paeth are undone faster by a decoder in C
        lines = inflate.decompress(compressed, length + 1)
    except zlib.error as error:
        raise BundleInvalid("a PNG member cannot be inflated; do not open this bundle") from error
    if len(lines) != length:
        raise BundleInvalid("a PNG member holds another number of pixels than it says; do not open this bundle")
    rows = np.frombuffer(lines, np.uint8).reshape(height, 1 + width * step)
    filter_type = int(rows[0, 0])
    if filter_type > UP or (rows[:, 0] != filter_type).any():
        return None
    pixels = rows[:, 1:].reshape(height, width, step)
    if filter_type == SUB:
        pixels = np.add.accumulate(pixels, axis=1, dtype=np.uint8)
    pixels = np.ascontiguousarray(pixels)
    if filter_type == UP:  # row by row: numpy's accumulate goes down the columns, ten times slower
        for y in range(1, height):
            np.add(pixels[y], pixels[y - 1], out=pixels[y])
    if depth == 16:
        pixels = pixels.view(">u2").astype("<u2")
    return pixels[:, :, 0] if colour == 0 else pixels


def _scan_lines(pixels: Array) -> Array:
    """The rows as PNG has them: bytes, 16-bit samples big-endian."""
    if pixels.itemsize == 2:
        pixels = pixels.astype(">u2")
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)


def _filter(rows: Array, step: int, filter_type: int, out: Array) -> None:
    """Write the filtered rows to ``out``; ``step`` is the distance in bytes to the sample to the left."""
    if filter_type == NONE:
        out[:] = rows
    elif filter_type == SUB:
        out[:, :step] = rows[:, :step]
        np.subtract(rows[:, step:], rows[:, :-step], out=out[:, step:])
    elif filter_type == UP:
        out[0] = rows[0]
        np.subtract(rows[1:], rows[:-1], out=out[1:])
    else:
        predict = _average if filter_type == AVERAGE else _paeth
        count = max(1, _CACHE_BYTES // rows.shape[1])
        for first in range(0, rows.shape[0], count):
            block = rows[first : first + count]
            above = np.zeros((len(block), rows.shape[1] + step), np.uint8)  # shifted by one sample: left of it is zero
            above[0, step:] = rows[first - 1] if first else 0
            above[1:, step:] = block[:-1]
            here = np.zeros_like(above)
            here[:, step:] = block
            predicted = predict(here[:, :-step], above[:, step:], above[:, :-step])
            np.subtract(block, predicted, out=out[first : first + count])


def _average(left: Array, up: Array, corner: Array) -> Array:
    """Half the sum of left and up, rounded down, without leaving eight bits."""
    average: Array = (left & up) + ((left ^ up) >> 1)
    return average


def _paeth(left: Array, up: Array, corner: Array) -> Array:
    """Whichever of left, up and corner is nearest to left + up - corner; ties go in that order."""
    wide = corner.astype(np.int16)
    to_left, to_up = up - wide, left - wide
    to_corner = np.abs(to_left + to_up)
    to_left, to_up = np.abs(to_left), np.abs(to_up)
    predicted = np.where(to_up <= to_corner, up, corner)
    nearest: Array = np.where((to_left <= to_up) & (to_left <= to_corner), left, predicted)
    return nearest


def _stored(filtered: Array) -> bytes:
    """A zlib stream of stored blocks."""
    flat = filtered.reshape(-1).data
    parts: list[bytes | memoryview] = [b"\x78\x01"]
    for start in range(0, len(flat), _STORED_BYTES):
        block = flat[start : start + _STORED_BYTES]
        last = start + _STORED_BYTES >= len(flat)
        parts += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack(">I", zlib.adler32(flat)))
    return b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> list[bytes]:
    return [struct.pack(">I", len(content)), kind, content, struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))]


def _image_data(data: bytes | memoryview) -> bytes | memoryview:
    """The content of all IDAT chunks."""
    view, position, parts = memoryview(data), 8, []
    for _ in range(MAX_PNG_CHUNKS):
        if position + 12 > len(view):
            break
        length, kind = struct.unpack_from(">I4s", view, position)
        if kind == b"IEND" or position + 12 + length > len(view):
            break
        if kind == b"IDAT":
            parts.append(view[position + 8 : position + 8 + length])
        position += 12 + length
    return parts[0] if len(parts) == 1 else b"".join(parts)
