"""An encoded original without the place it was taken at: its pixels, decoded, stay bit for bit what they were.

EXIF loses its GPS directory and its thumbnail, XMP and text chunks go whole, and so does what stands behind the image's
end or belongs to further images in the file, which have positions of their own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

__all__ = ["without_location"]

_GPS_DIRECTORY = 0x8825
_EXIF = b"Exif\0\0"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Chunks of text; XMP and, by old programs, EXIF stand in them. The others belong to an animation.
_PNG_DROPPED = (b"tEXt", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT")
_WEBP_KEPT = (b"VP8 ", b"VP8L", b"ALPH", b"ICCP")
_WEBP_EXIF, _WEBP_XMP, _WEBP_ANIMATED = 0x08, 0x04, 0x02


def without_location(data: bytes, encoding: str) -> bytes:
    """Return the file without position data.

    Args:
        data: a whole file.
        encoding: "jpeg", "png" or "webp".

    Raises:
        ValueError: it is no such file, or one that holds several images; then nothing is known about what is in it.
    """
    try:
        match encoding:
            case "jpeg":
                return b"".join(_jpeg(data))
            case "png":
                return b"".join(_png(data))
            case "webp":
                return _webp(data)
    except (struct.error, IndexError) as error:
        raise ValueError(f"no whole {encoding} file") from error
    raise ValueError(f"{encoding!r} is no encoding of an image file")


def _jpeg(data: bytes) -> Iterator[bytes]:
    if data[:2] != b"\xff\xd8":
        raise ValueError("no JPEG file")
    yield data[:2]
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError("a JPEG file without a marker where one must stand")
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if marker == 0xD9:
            yield b"\xff\xd9"
            return  # what follows the end is no part of this image
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(data):
            raise ValueError("a JPEG file that was cut off")
        if marker == 0xDA:  # entropy-coded data follow, to the next marker that is neither stuffing nor a restart
            while not (data[end] == 0xFF and data[end + 1] != 0 and not 0xD0 <= data[end + 1] <= 0xD7):
                end = data.index(b"\xff", end + (data[end] == 0xFF))
        if (0xE1 <= marker <= 0xEF and marker != 0xEE) or marker == 0xFE:
            yield _jpeg_segment(marker, data[at + 4 : end])
        else:
            yield b"\xff" + data[at + 1 : end]
        at = end


def _jpeg_segment(marker: int, content: bytes) -> bytes:
    """What is kept of an application's segment or a comment."""
    if marker == 0xE1 and content.startswith(_EXIF):
        content = _exif(content)
        return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content if content else b""
    if marker == 0xE2 and content.startswith(b"ICC_PROFILE\0"):
        return b"\xff\xe2" + struct.pack(">H", len(content) + 2) + content
    return b""


def _png(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_PNG_SIGNATURE):
        raise ValueError("no PNG file")
    yield _PNG_SIGNATURE
    at = len(_PNG_SIGNATURE)
    while True:
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise ValueError("a PNG file that was cut off")
        if kind == b"eXIf":
            content = _exif(_EXIF + data[at + 8 : end - 4]).removeprefix(_EXIF)
            if content:
                yield _png_chunk(kind, content)
        elif kind not in _PNG_DROPPED:
            yield data[at:end]
        if kind == b"IEND":
            return
        at = end


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _webp(data: bytes) -> bytes:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("no WebP file")
    kept: list[tuple[bytes, bytes]] = []
    at = 12
    end_of_file = 8 + struct.unpack_from("<I", data, 4)[0]
    if end_of_file > len(data):
        raise ValueError("a WebP file that was cut off")
    flags_at, has_exif = -1, False
    while at < end_of_file:
        (length,) = struct.unpack_from("<I", data, at + 4)
        kind, end = data[at : at + 4], at + 8 + length
        if end > end_of_file:
            raise ValueError("a WebP file that was cut off")
        content = data[at + 8 : end]
        if kind == b"VP8X":
            if content[0] & _WEBP_ANIMATED:
                raise ValueError("an animated WebP file")
            flags_at = len(kept)
            kept.append((kind, content))
        elif kind == b"EXIF":
            prefixed = content if content.startswith(_EXIF) else _EXIF + content
            content = _exif(prefixed).removeprefix(_EXIF)
            if content:
                has_exif = True
                kept.append((kind, content))
        elif kind in _WEBP_KEPT:
            kept.append((kind, content))
        at = end + length % 2
    if flags_at >= 0:
        kind, content = kept[flags_at]
        flags = content[0] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if has_exif else 0)
        kept[flags_at] = kind, bytes([flags]) + content[1:]
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for kind, content in kept
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _exif(content: bytes) -> bytes:
    """EXIF without its GPS directory and thumbnail; empty where it cannot be understood or written again."""
    from PIL import Image  # the host, which imports this package, may do without Pillow's 20 ms

    exif = Image.Exif()
    try:
        exif.load(content)
        if _GPS_DIRECTORY in exif:
            del exif[_GPS_DIRECTORY]
        written = exif.tobytes()
        again = Image.Exif()
        again.load(written)
    except Exception:  # noqa: BLE001  # Pillow raises many kinds of error on damaged EXIF
        return b""
    if _GPS_DIRECTORY in again or len(written) > 65_533 or not len(again):
        return b""
    return written if written.startswith(_EXIF) else _EXIF + written
