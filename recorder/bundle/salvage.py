"""What is intact of a damaged bundle, as a new one: no seek table is needed, the manifest is.

The frames behind the manifest are found one after the other by their block headers, and after damage by the next
magic number. A member counts as intact when all its bytes have the digest that the manifest lists.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle import archive, ustar
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import FREE_TOTAL_BYTES, MAX_FRAME_BYTES, MAX_RATIO, MIB
from recorder.bundle.manifest import Manifest, Member
from recorder.bundle.parse import parse_manifest
from recorder.bundle.reader import read_manifest
from recorder.bundle.remains import remains
from recorder.bundle.source import RangeSource, open_source
from recorder.bundle.writer import BundleWriter
from recorder.bundle.zframe import FRAME_MAGIC, decompress_frame, frame_length

__all__ = ["Salvaged", "salvage"]

#: Bytes read at once: the longest frame a reader accepts, so that a frame is always whole in memory.
_WINDOW_BYTES = 2 * archive.most_compressed(MAX_FRAME_BYTES)

#: Places that look like a frame and are none. Damage leaves a few; an attacker would put millions there.
_MAX_STRAYS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """What became of a damaged bundle."""

    id: str  #: of the new bundle
    parent: str  #: of the damaged one
    members_kept: int
    members_lost: tuple[str, ...]  #: paths, in archive order
    lost: dict[str, int]  #: images, tensors … of the manifest that are gone, by reason


@dataclass(slots=True)
class _Run:
    """The frames of one member, as far as they were found."""

    member: Member
    frames: list[tuple[int, int, int]]  #: (offset, compressed bytes, raw bytes)
    raw_bytes: int
    digest: hashlib._Hash

    def take(self, offset: int, packed_bytes: int, raw: bytes) -> None:
        """Add the next frame."""
        self.digest.update(_content(self.member, self.raw_bytes, raw))
        self.frames.append((offset, packed_bytes, len(raw)))
        self.raw_bytes += len(raw)

    @property
    def is_whole(self) -> bool:
        """Whether every byte was there and right."""
        whole = self.raw_bytes == ustar.entry_bytes(self.member.size_bytes)
        return whole and self.digest.hexdigest() == self.member.sha256


def salvage(origin: str | os.PathLike[str] | bytes | RangeSource, path: str | os.PathLike[str]) -> Salvaged:
    """Write the intact members of a damaged bundle as a new bundle, marked incomplete, that names it as its parent.

    Images whose member is gone are dropped, tensors become opaque values; both are counted in ``lost`` of their frames
    and of the incident, with reasons that begin with ``salvage:``. Memory stays within a few frames of 8 MiB. The same
    bytes give the same bundle.

    Args:
        origin: the damaged bundle; it is only read.
        path: the new one; replaced if it exists.

    Raises:
        BundleInvalid: header or manifest are damaged too: nothing says what the rest means.
        BundleUnavailable: the origin cannot be read.
        OSError: the new bundle cannot be written; nothing is left behind.
    """
    source = open_source(origin)
    try:
        return _salvage(source, Path(path))
    finally:
        source.close()


def _salvage(source: RangeSource, path: Path) -> Salvaged:
    size = source.size_bytes
    header = archive.parse_header(source.read_at(0, min(archive.HEADER_BYTES, size)))
    start = archive.HEADER_BYTES + header.manifest_frame_bytes
    try:
        if start > size:
            raise BundleInvalid(archive.TRUNCATED)
        frame = source.read_at(archive.HEADER_BYTES, header.manifest_frame_bytes)
        text = read_manifest(frame, header)
    except BundleInvalid as error:
        raise BundleInvalid(
            "the bundle's manifest is damaged too, so nothing says what the rest means; fetch it again from the sink, "
            "or recover it from the ring if that is still there"
        ) from error
    manifest = parse_manifest(text)
    found = _find(source, start, manifest)
    gone = tuple(member.path for member in manifest.members if member.path not in found)
    changed, lost = remains(manifest, hashlib.sha256(text).hexdigest(), frozenset(gone))
    with BundleWriter(path.parent) as writer:
        for member in manifest.members:
            if member.path in found:
                writer.add(member.path, _contents(source, found[member.path]), member.size_bytes)
        bundle_id = writer.finish(path, changed)
    return Salvaged(
        id=bundle_id,
        parent=hashlib.sha256(text).hexdigest(),
        members_kept=len(found),
        members_lost=gone,
        lost=dict(lost),
    )


def _find(source: RangeSource, start: int, manifest: Manifest) -> dict[str, _Run]:
    """Return the runs of all intact members, by path."""
    by_header = {ustar.header(member.path, member.size_bytes): member for member in manifest.members}
    found: dict[str, _Run] = {}
    run: _Run | None = None
    for offset, packed_bytes, raw in _frames(source, start):
        member = by_header.get(raw[: ustar.BLOCK_BYTES])
        if member is not None:
            run = _Run(member, [], 0, hashlib.sha256())
        if run is None:
            continue  # the rest of a member that lost its beginning
        run.take(offset, packed_bytes, raw)
        if run.is_whole:
            found.setdefault(run.member.path, run)
        if run.raw_bytes >= ustar.entry_bytes(run.member.size_bytes):
            run = None
    return found


def _frames(source: RangeSource, position: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield ``(offset, compressed bytes, raw bytes)`` of every sound frame from a position on."""
    size = source.size_bytes
    budget = FREE_TOTAL_BYTES + MAX_RATIO * size
    strays = 0
    begin, window = position, b""
    while position < size and strays < _MAX_STRAYS:
        if position + _WINDOW_BYTES // 2 > begin + len(window) < size:
            begin, window = position, source.read_at(position, min(_WINDOW_BYTES, size - position))
        view = memoryview(window)[position - begin :][: archive.most_compressed(MAX_FRAME_BYTES)]
        raw = None
        length = frame_length(view)
        if length is not None and length[1] <= MAX_FRAME_BYTES:
            budget -= length[1]
            if budget < 0:
                raise BundleInvalid(f"the bundle unpacks to more than {MAX_RATIO} times its size; do not open it")
            try:
                raw = decompress_frame(view[: length[0]], length[1])
            except BundleInvalid:
                raw = None
        if length is not None and raw is not None:
            yield position, length[0], raw
            position += length[0]
            continue
        strays += 1
        following = window.find(FRAME_MAGIC, position - begin + 1)
        while following < 0 and begin + len(window) < size:
            begin = begin + len(window) - len(FRAME_MAGIC)
            window = source.read_at(begin, min(MIB, size - begin))
            following = window.find(FRAME_MAGIC)
        if following < 0:
            return
        position = begin + following


def _content(member: Member, raw_before: int, raw: bytes) -> memoryview:
    """The part of a frame that is neither tar header nor padding."""
    first = ustar.BLOCK_BYTES if raw_before == 0 else 0
    last = ustar.BLOCK_BYTES + member.size_bytes - raw_before
    return memoryview(raw)[first : max(first, last)]


def _contents(source: RangeSource, run: _Run) -> Iterator[memoryview]:
    """Yield a member's bytes again, a frame at a time."""
    seen = 0
    for offset, packed_bytes, raw_bytes in run.frames:
        raw = decompress_frame(source.read_at(offset, packed_bytes), raw_bytes)
        yield _content(run.member, seen, raw)
        seen += raw_bytes
