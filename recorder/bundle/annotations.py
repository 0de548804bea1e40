"""Skippable frames behind the archive, such as signatures: they do not change the bundle's id (FORMAT.md, 1.5)."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.bundle import archive
from recorder.bundle.durable import durable_file
from recorder.bundle.errors import BundleError
from recorder.bundle.limits import MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS, MIB

if TYPE_CHECKING:
    from recorder.bundle.reader import Bundle

__all__ = ["annotate", "pack_annotation", "unpack_annotation"]

_PREFIX = struct.Struct("<II")


def pack_annotation(magic: int, content: bytes) -> bytes:
    """Return one skippable frame; ``magic`` is one of archive.ANNOTATION_MAGICS."""
    if magic not in archive.ANNOTATION_MAGICS or _PREFIX.size + len(content) > MAX_ANNOTATION_BYTES:
        raise ValueError(f"an annotation of {len(content)} bytes with magic {magic:#x} is not allowed")
    return _PREFIX.pack(magic, len(content)) + content


def unpack_annotation(frame: bytes) -> tuple[int, bytes]:
    """Return magic and content of a frame that the reader has checked."""
    magic, _ = _PREFIX.unpack_from(frame)
    return magic, frame[_PREFIX.size :]


def annotate(bundle: Bundle, path: str | os.PathLike[str], frames: Sequence[bytes]) -> None:
    """Write a copy of a bundle that has these annotations and no others; its id is the same.

    The archive is copied byte for byte: what is damaged stays damaged.

    Args:
        bundle: it is only read.
        path: the new file, replaced if it exists.
        frames: whole frames, as `pack_annotation` makes them and `Bundle.annotations` returns them.

    Raises:
        BundleError: more annotations than the format allows.
        BundleUnavailable: the bundle could not be read.
        OSError: the copy cannot be written; nothing is left behind.
    """
    if len(frames) > MAX_ANNOTATIONS:
        raise BundleError(f"a bundle has at most {MAX_ANNOTATIONS} annotations; sign an unsigned copy instead")
    table, end, count = bundle.layout, bundle.archive_bytes, bundle.archive_frames
    lengths = list(zip(table.compressed_bytes[:count], table.raw_bytes[:count], strict=True))
    lengths += [(len(frame), 0) for frame in frames]
    with durable_file(Path(path)) as file:
        for offset in range(0, end, MIB):
            file.write(bundle.read_range(offset, min(MIB, end - offset)))
        file.write(b"".join(frames) + archive.pack_seek_table(lengths))
