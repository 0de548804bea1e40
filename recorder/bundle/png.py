"""PNG files with numpy: filtered rows in stored deflate blocks, so that zstd around them does the entropy coding.

Any viewer opens them. Sources: PNG specification (third edition), RFC 1950, RFC 1951.
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
from recorder.bundle.rows import ADAPTIVE, NONE, SUB, UP, filter_rows

__all__ = ["choose_filter", "decode", "encode", "wrap"]

Array = npt.NDArray[Any]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # grey, grey and alpha, RGB, RGBA
_CHANNELS = {colour: channels for channels, colour in _COLOUR_TYPES.items()}
_STORED_BYTES = 65535  # the longest stored block of deflate

#: What a deflate stream takes beyond the bytes it stores, generously: the longest Huffman tables take some 300.
_PEEK_BYTES = 1024

#: How much smaller than with the best cheaper filter the result must be: choosing for each row takes longer both ways.
_WORTHWHILE = {NONE: 1.0, SUB: 1.0, UP: 1.0, ADAPTIVE: 0.98}

#: Pillow reads 16-bit colour as eight bits; our own decoder knows these.
_OF_DEEP_COLOUR = (NONE, SUB, UP)


def encode(pixels: Array, filter_type: int | None = None) -> bytes:
    """Return a PNG file of the pixels.

    Args:
        pixels: HW, or HWC with one to four channels; uint8 or uint16; no side of length zero.
        filter_type: one of rows.NONE to rows.ADAPTIVE; None chooses on a sample.
    """
    if filter_type is None:
        filter_type = choose_filter(pixels)
    filtered = filter_rows(_scan_lines(pixels), _step(pixels), filter_type)
    return wrap(filtered, pixels.shape[1], 8 * pixels.itemsize, 1 if pixels.ndim == 2 else pixels.shape[2])


def wrap(filtered: Array, width: int, depth: int, channels: int) -> bytes:
    """Return the file whose rows are these.

    Args:
        filtered: uint8, height x (filter's number and the row's bytes).
        width: in pixels.
        depth: bits of a sample, 8 or 16.
        channels: 1 to 4.
    """
    header = struct.pack(">IIBBBBB", width, len(filtered), depth, _COLOUR_TYPES[channels], 0, 0, 0)
    return b"".join([_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", _stored(filtered)), *_chunk(b"IEND", b"")])


def choose_filter(pixels: Array) -> int:
    """Try the filters on bands of rows and return the one whose bytes compress best for their cost."""
    height = pixels.shape[0]
    band = max(2, min(8, height))
    starts = sorted({0, max(0, height // 2 - band // 2), max(0, height - band)})
    bands = [_scan_lines(pixels[start : start + band]) for start in starts]
    compressor = zstandard.ZstdCompressor(level=1)
    deep_colour = pixels.itemsize == 2 and pixels.ndim == 3 and pixels.shape[2] > 1
    choice, smallest = NONE, float("inf")
    for filter_type, worthwhile in _WORTHWHILE.items():
        if deep_colour and filter_type not in _OF_DEEP_COLOUR:
            continue
        size = 0
        for rows in bands:
            filtered = filter_rows(rows, _step(pixels), filter_type)[:, 1:]
            size += len(compressor.compress(filtered[1:].tobytes() or filtered.tobytes()))
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
    stride = 1 + width * step
    length = height * stride
    inflate = zlib.decompressobj()
    try:
        compressed = _image_data(data)
        beginning = zlib.decompressobj().decompress(compressed[: stride + _PEEK_BYTES], stride + 1)
        if beginning[:1] > bytes([UP]) or beginning[stride:] not in (b"", beginning[:1]):
            return None  # average, paeth and mixed filters are undone faster by a decoder in C
        lines = inflate.decompress(compressed, length + 1)
    except zlib.error as error:
        raise BundleInvalid("a PNG member cannot be inflated; do not open this bundle") from error
    if len(lines) != length:
        raise BundleInvalid("a PNG member holds another number of pixels than it says; do not open this bundle")
    rows = np.frombuffer(lines, np.uint8).reshape(height, stride)
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


def _step(pixels: Array) -> int:
    """Bytes of a pixel: the distance to the sample to the left."""
    return int((1 if pixels.ndim == 2 else pixels.shape[2]) * pixels.itemsize)


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
