"""The frames around the tar: the header in front, the seek table at the end (layout in schemas/FORMAT.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import MAX_FRAME_BYTES, MAX_FRAMES, MAX_MANIFEST_BYTES, MAX_TOTAL_BYTES
from recorder.bundle.manifest import FORMAT_MAJOR, FORMAT_MINOR
from recorder.bundle.ustar import entry_bytes

__all__ = [
    "ANNOTATION_MAGICS",
    "FOOTER_BYTES",
    "HEADER_BYTES",
    "Header",
    "SeekTable",
    "TRUNCATED",
    "check_annotation",
    "most_compressed",
    "pack_header",
    "pack_seek_table",
    "parse_footer",
    "parse_header",
    "parse_seek_table",
]

#: PNG's idea: a byte above 127, line ends and ^Z, so that a transfer in text mode is noticed at once.
MAGIC = b"\x89VFR\r\n\x1a\n"

_HEADER = struct.Struct("<II8sHHII32s")
HEADER_BYTES = _HEADER.size
_HEADER_FRAME_MAGIC = 0x184D2A50

#: Skippable frames that may stand between the archive and the seek table.
ANNOTATION_MAGICS = range(0x184D2A51, 0x184D2A5E)

_TABLE_FRAME_MAGIC = 0x184D2A5E
_TABLE_PREFIX = struct.Struct("<II")
_TABLE_ENTRY = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")
_FOOTER_MAGIC = 0x8F92EAB1
FOOTER_BYTES = _FOOTER.size

TRUNCATED = "the bundle is truncated or damaged; fetch it again, or salvage what is intact with `replay recover`"
_FOREIGN = "this is not a bundle of vision-flight-recorder; check the path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first frame: enough to find and check the manifest with one read."""

    major: int
    minor: int
    manifest_frame_bytes: int  #: compressed length of the manifest's frame
    manifest_bytes: int  #: length of manifest.json
    manifest_sha256: bytes  #: 32 bytes, of manifest.json


def pack_header(manifest_frame_bytes: int, manifest_bytes: int, manifest_sha256: bytes) -> bytes:
    """Return the skippable frame that opens a bundle."""
    return _HEADER.pack(
        _HEADER_FRAME_MAGIC,
        HEADER_BYTES - 8,
        MAGIC,
        FORMAT_MAJOR,
        FORMAT_MINOR,
        manifest_frame_bytes,
        manifest_bytes,
        manifest_sha256,
    )


def parse_header(data: bytes) -> Header:
    """Parse the first HEADER_BYTES of a bundle.

    Raises:
        BundleInvalid: not a bundle, or of another major version.
    """
    if len(data) < HEADER_BYTES:
        raise BundleInvalid(TRUNCATED if data[8:16] == MAGIC else _FOREIGN)
    frame_magic, length, magic, major, minor, frame_bytes, raw_bytes, digest = _HEADER.unpack_from(data)
    if frame_magic != _HEADER_FRAME_MAGIC or magic != MAGIC:
        raise BundleInvalid(_FOREIGN)
    if major != FORMAT_MAJOR:
        raise BundleInvalid(
            f"the bundle has format {major}.{minor} and this version reads {FORMAT_MAJOR}.x; "
            "use a matching version of vision-flight-recorder"
        )
    if length != HEADER_BYTES - 8:
        raise BundleInvalid("the bundle's header has a wrong length; fetch the bundle again from where it was sealed")
    if not 0 < raw_bytes <= MAX_MANIFEST_BYTES or not 0 < frame_bytes <= most_compressed(entry_bytes(raw_bytes)):
        raise BundleInvalid(f"the bundle's manifest is empty or above {MAX_MANIFEST_BYTES} bytes; do not open it")
    return Header(
        major=major,
        minor=minor,
        manifest_frame_bytes=frame_bytes,
        manifest_bytes=raw_bytes,
        manifest_sha256=digest,
    )


def most_compressed(raw_bytes: int) -> int:
    """Return the most bytes one zstd frame of so many raw bytes can take (ZSTD_compressBound, rounded up)."""
    return raw_bytes + raw_bytes // 128 + 1024


@dataclass(frozen=True, slots=True)
class SeekTable:
    """Compressed and raw length of every frame, in file order; the table's own frame is not among them."""

    compressed_bytes: tuple[int, ...]
    raw_bytes: tuple[int, ...]
    offsets: tuple[int, ...]  #: of each frame in the file, and of the table itself at the end


def check_annotation(start: bytes, compressed_bytes: int, raw_bytes: int) -> None:
    """Check that a frame behind the archive is a skippable one of the stated length, given its first eight bytes.

    Raises:
        BundleInvalid: it is something else.
    """
    magic, length = _TABLE_PREFIX.unpack(start)
    if magic not in ANNOTATION_MAGICS or length != compressed_bytes - 8 or raw_bytes != 0:
        raise BundleInvalid("the bundle has an unknown part behind its archive; do not trust this bundle")


def pack_seek_table(frames: list[tuple[int, int]]) -> bytes:
    """Return the skippable frame that closes a bundle, for ``(compressed, raw)`` lengths of all frames before it.

    The format is zstd's seekable format 0.1.0, without its optional checksums: every frame carries its own.
    """
    entries = b"".join(_TABLE_ENTRY.pack(*frame) for frame in frames)
    footer = _FOOTER.pack(len(frames), 0, _FOOTER_MAGIC)
    return _TABLE_PREFIX.pack(_TABLE_FRAME_MAGIC, len(entries) + len(footer)) + entries + footer


def parse_footer(data: bytes) -> int:
    """Return the length of the whole seek table frame, given the last FOOTER_BYTES of the file.

    Raises:
        BundleInvalid: the file does not end in a seek table this format allows.
    """
    if len(data) != FOOTER_BYTES:
        raise BundleInvalid(TRUNCATED)
    count: int
    count, descriptor, magic = _FOOTER.unpack(data)
    if magic != _FOOTER_MAGIC or descriptor != 0:
        raise BundleInvalid(TRUNCATED)
    if not 3 <= count <= MAX_FRAMES:
        raise BundleInvalid(f"the bundle claims {count} frames and 3 to {MAX_FRAMES} are allowed; do not open it")
    return _TABLE_PREFIX.size + count * _TABLE_ENTRY.size + FOOTER_BYTES


def parse_seek_table(data: bytes, file_bytes: int) -> SeekTable:
    """Parse the seek table frame and check that the frames tile the file.

    Raises:
        BundleInvalid: a length is out of bounds or they do not add up to the file's.
    """
    magic, length = _TABLE_PREFIX.unpack_from(data)
    if magic != _TABLE_FRAME_MAGIC or length != len(data) - _TABLE_PREFIX.size:
        raise BundleInvalid(TRUNCATED)
    entries = list(_TABLE_ENTRY.iter_unpack(data[_TABLE_PREFIX.size : -FOOTER_BYTES]))
    compressed, raw = zip(*entries, strict=True)
    for index, (packed, unpacked) in enumerate(entries):
        most = MAX_FRAME_BYTES if index != 1 else entry_bytes(MAX_MANIFEST_BYTES)
        if packed < 8 or unpacked > most or (unpacked and packed > most_compressed(unpacked)):
            raise BundleInvalid(f"frame {index} of the bundle has a length that is not allowed; do not open it")
    if sum(raw) > MAX_TOTAL_BYTES:
        raise BundleInvalid(f"the bundle claims to unpack to more than {MAX_TOTAL_BYTES} bytes; do not open it")
    offsets = tuple(accumulate(compressed, initial=0))
    if offsets[-1] != file_bytes - len(data):
        raise BundleInvalid(TRUNCATED)
    return SeekTable(compressed_bytes=compressed, raw_bytes=raw, offsets=offsets)
