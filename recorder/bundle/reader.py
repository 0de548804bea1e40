"""Reads a bundle without trusting it: nothing is believed before it was checked, and only what is asked for is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Any

from recorder.bundle import archive, check, ustar
from recorder.bundle.errors import BundleError, BundleInvalid
from recorder.bundle.limits import (
    FREE_TOTAL_BYTES,
    KIB,
    MAX_ANNOTATION_BYTES,
    MAX_ANNOTATIONS,
    MAX_MEMBERS,
    MAX_RATIO,
    MIB,
)
from recorder.bundle.manifest import Image, Member
from recorder.bundle.parse import parse_manifest
from recorder.bundle.paths import MANIFEST_PATH
from recorder.bundle.source import RangeSource, open_source
from recorder.bundle.values import ITEM_SIZE_BYTES, TensorValue
from recorder.bundle.zframe import decompress_frame

# numpy is imported where pixels or numbers are asked for: showing what a manifest says does not need it.
if TYPE_CHECKING:
    import numpy.typing as npt

    from recorder.bundle.track import TrackTable

__all__ = ["Bundle", "read_manifest"]

#: What one request from a bucket should bring at least: header and manifest of a common bundle, or its seek table.
_GUESS_BYTES = 64 * KIB

#: Compressed bytes of one member that are asked for at once.
_READ_AHEAD_BYTES = 8 * MIB

#: A member that small tensors share is kept up to this size, until another such is read.
_KEEP_BYTES = MIB


class Bundle:
    """An open bundle. Opening reads header, manifest and seek table; members are read and checked when asked for.

    Not for use from two threads at once.

    Attributes:
        id: sha256 of ``manifest.json``, hex.
        manifest: the manifest, validated.
        size_bytes: length of the file.
        layout: lengths and offsets of all its frames.
    """

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self.size_bytes = source.size_bytes
        head = _Head(source)
        header = archive.parse_header(head.read(0, archive.HEADER_BYTES))
        self._table = self.layout = _read_table(source)
        _check_header_agrees(header, self._table)
        _check_ratio(self._table, source.size_bytes)
        text = read_manifest(head.read(archive.HEADER_BYTES, header.manifest_frame_bytes), header)
        self.manifest_bytes = text  #: as they stand in the file; their sha256 is the bundle id
        self.id = hashlib.sha256(text).hexdigest()
        self.manifest = parse_manifest(text)
        self._members = {member.path: member for member in self.manifest.members}
        self._check_tiling(head)
        self._kept: tuple[str, bytes] = ("", b"")

    @classmethod
    def open(cls, origin: str | os.PathLike[str] | bytes | bytearray | memoryview | RangeSource) -> Bundle:
        """Open a bundle from a path, from memory or from a source of ranges (which the bundle then closes).

        Raises:
            BundleInvalid: it is not an intact bundle this version may read.
            BundleUnavailable: it could not be reached.
        """
        source = open_source(origin)
        try:
            return cls(source)
        except BaseException:
            source.close()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the source. May be called twice."""
        self._source.close()

    def __repr__(self) -> str:
        return f"<Bundle {self.id[:12]} of {len(self.manifest.frames)} frames, {self.size_bytes} bytes>"

    def read(self, path: str) -> bytes:
        """Return a member's bytes, checked against its digest.

        Raises:
            BundleInvalid: it is not what the manifest says.
            BundleUnavailable: it could not be read.
            KeyError: there is no such member.
        """
        return b"".join(self._parts(path, hashlib.sha256()))

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield a member's bytes in parts of at most a zstd frame.

        Every part has passed zstd's checksum; the digest of the whole is known only at the end, so do not act on the
        parts before the iteration has ended.

        Raises:
            BundleInvalid: it is not what the manifest says.
            BundleUnavailable: it could not be read.
            KeyError: there is no such member.
        """
        for part in self._parts(path, hashlib.sha256()):
            yield bytes(part)

    def _parts(self, path: str, digest: hashlib._Hash | None) -> Iterator[memoryview]:
        """As `stream`, without copies; without a digest when the caller checks one of what the bytes mean."""
        member = self._members[path]
        remaining = member.size_bytes
        for index, raw in self._frames(member):
            part = memoryview(raw)
            if index == member.first_frame:
                if raw[: ustar.BLOCK_BYTES] != ustar.header(path, member.size_bytes):
                    raise BundleInvalid(f"{path} has another tar header than it must have; do not trust this bundle")
                part = part[ustar.BLOCK_BYTES :]
            content = part[:remaining]
            if any(part[remaining:]):
                raise BundleInvalid(f"{path} is followed by bytes that should be zero; do not trust this bundle")
            remaining -= len(content)
            if digest is not None:
                digest.update(content)
            if content:
                yield content
        if remaining or (digest is not None and digest.hexdigest() != member.sha256):
            raise BundleInvalid(f"{path} has another digest than the manifest says; do not trust this bundle")

    def tensor_bytes(self, value: TensorValue) -> bytes:
        """Return a tensor's bytes as values.TensorValue describes them, checked against their digest.

        Raises:
            BundleInvalid: they are not what the manifest says.
            BundleUnavailable: they could not be read.
        """
        return self._tensor_bytes(value, self._shared(value))

    def _shared(self, value: TensorValue) -> bytes:
        """The content of a tensor's member; one that others share is kept until another such is read."""
        if self._kept[0] == value.member:
            return self._kept[1]
        if value.encoding != "raw":  # the digest of what it means is checked, and says more than the member's
            return b"".join(self._parts(value.member, None))
        content = self.read(value.member)
        if value.encoding == "raw" and value.size_bytes < len(content) <= _KEEP_BYTES:
            self._kept = (value.member, content)
        return content

    def _tensor_bytes(self, value: TensorValue, content: bytes) -> bytes:
        data: bytes | memoryview = content
        if value.encoding == "raw":
            data = content[value.offset : value.offset + value.size_bytes]
        if value.encoding != "raw" or len(data) != value.size_bytes:
            from recorder.bundle import encodings

            data = encodings.decode(data, value.encoding, ITEM_SIZE_BYTES[value.dtype], value.size_bytes)
        member = self._members[value.member]
        whole = value.encoding == "raw" and member.size_bytes == value.size_bytes
        found = member.sha256 if whole else hashlib.sha256(data).hexdigest()
        if found != value.sha256:
            raise BundleInvalid(f"a tensor in {value.member} has another digest than stated; do not trust this bundle")
        return bytes(data)

    def array(self, value: TensorValue) -> npt.NDArray[Any]:
        """Return a tensor as the host indexed it (read-only); bfloat16 and float8 become float32, exactly.

        Raises:
            BundleInvalid: it is not what the manifest says.
            BundleUnavailable: it could not be read.
        """
        from recorder.bundle.tensors import logical_array

        return logical_array(self.tensor_bytes(value), value.dtype, value.shape, value.strides)

    def pixels(self, image: Image) -> npt.NDArray[Any]:
        """Return an image's pixels, HW or HWC, checked against their digest.

        Raises:
            BundleInvalid: they are not what the manifest says.
            BundleUnavailable: they could not be read.
            PixelsDiffer: a stored JPEG or WebP file gives other pixels here than where it was recorded.
            BundleError: the image could not be decoded when it was recorded either.
        """
        from recorder.bundle import images

        if image.pixels_sha256 is None:
            raise BundleError(f"{image.member} could not be decoded when it was recorded; look at the file itself")
        if image.encoding not in ("png", "raw"):
            return images.checked_pixels(self.read(image.member), image)
        # The digest of lossless pixels is checked and says more than the file's, which would take as long again.
        parts = list(self._parts(image.member, None))
        return images.checked_pixels(parts[0] if len(parts) == 1 else memoryview(b"".join(parts)), image)

    def track(self) -> list[TrackTable]:
        """Return the tables of the track, in the order of ``manifest.track.levels``; empty when there is none.

        Raises:
            BundleInvalid: they are not what the manifest says.
            BundleUnavailable: they could not be read.
        """
        if self.manifest.track is None:
            return []
        from recorder.bundle import track

        return track.decode(self.read(self.manifest.track.member), self.manifest.track)

    def read_range(self, offset: int, length: int) -> bytes:
        """Return bytes of the file as they stand, within the frames of ``layout``.

        Raises:
            BundleUnavailable: they could not be read.
        """
        return self._source.read_at(offset, length)

    def annotations(self) -> list[bytes]:
        """Return the skippable frames behind the archive, whole, in file order (`recorder.bundle.annotations`).

        Raises:
            BundleUnavailable: they could not be read.
        """
        places = self._table.offsets[self.archive_frames :]
        return [self._source.read_at(begin, end - begin) for begin, end in pairwise(places)]

    def verify(self) -> list[str]:
        """Read and check everything; return what is wrong, as sentences. Empty: the bundle is intact.

        JPEG and WebP files are checked by their digest, not decoded: decoders differ in the last bit.

        Raises:
            BundleUnavailable: it could not be read to the end.
        """
        from recorder.bundle import images

        problems: list[str] = []
        tensors: dict[str, dict[TensorValue, None]] = {}
        for _, tensor in check.tensors_in(self.manifest):
            tensors.setdefault(tensor.member, {})[tensor] = None
        pictures: dict[str, Image] = {}
        for frame in self.manifest.frames:
            pictures |= {i.member: i for i in frame.images if i.pixels_sha256 and i.encoding in ("png", "raw")}
        track = self.manifest.track.member if self.manifest.track is not None else None
        for path in self._members:
            try:
                if path == track:
                    self.track()
                elif path not in tensors and path not in pictures:
                    for _ in self.stream(path):
                        pass
                else:
                    content = self.read(path)
                    if path in pictures:
                        images.checked_pixels(content, pictures[path])
                    for tensor in tensors.get(path, ()):
                        self._tensor_bytes(tensor, content)
            except BundleInvalid as error:
                problems.append(str(error))
        return problems

    def _frames(self, member: Member) -> Iterator[tuple[int, bytes]]:
        """Yield ``(index, raw bytes)`` of a member's frames, reading several at once."""
        table = self._table
        index, last = member.first_frame, member.first_frame + member.frame_count
        while index < last:
            end = index + 1
            start = table.offsets[index]
            while end < last and table.offsets[end + 1] - start <= _READ_AHEAD_BYTES:
                end += 1
            data = memoryview(self._source.read_at(start, table.offsets[end] - start))
            for frame in range(index, end):
                packed = data[table.offsets[frame] - start : table.offsets[frame + 1] - start]
                yield frame, decompress_frame(packed, table.raw_bytes[frame])
            index = end

    def _check_tiling(self, head: _Head) -> None:
        """Members fill the frames between manifest and end of archive exactly; nothing unknown stands behind."""
        table = self._table
        if len(self.manifest.members) > MAX_MEMBERS:
            raise BundleInvalid(f"the bundle has more than {MAX_MEMBERS} members; do not open it")
        following = 2
        for member in self.manifest.members:
            following = member.first_frame + member.frame_count
            raw = table.raw_bytes[member.first_frame : following]
            if len(raw) != member.frame_count or not all(raw) or sum(raw) != ustar.entry_bytes(member.size_bytes):
                raise BundleInvalid(archive.TRUNCATED)
            if raw[0] < ustar.BLOCK_BYTES:
                raise BundleInvalid(f"{member.path} has a split tar header; do not trust this bundle")
        if following >= len(table.raw_bytes) or table.raw_bytes[following] != len(ustar.END_OF_ARCHIVE):
            raise BundleInvalid(archive.TRUNCATED)
        self.archive_frames = following + 1  #: frames before the annotations
        self.archive_bytes = table.offsets[following + 1]  #: and their length
        start, stop = table.offsets[following], table.offsets[-1]
        annotations = table.compressed_bytes[following + 1 :]
        if len(annotations) > MAX_ANNOTATIONS or max(annotations, default=0) > MAX_ANNOTATION_BYTES:
            raise BundleInvalid("the bundle has more behind its archive than is allowed; do not open it")
        rest = self._source.read_at(start, stop - start)
        size = table.compressed_bytes[following]
        if decompress_frame(rest[:size], table.raw_bytes[following]) != ustar.END_OF_ARCHIVE:
            raise BundleInvalid(archive.TRUNCATED)
        for length, raw_bytes in zip(annotations, table.raw_bytes[following + 1 :], strict=True):
            archive.check_annotation(rest[size : size + 8], length, raw_bytes)
            size += length


class _Head:
    """The file's beginning, read once."""

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self._start = source.read_at(0, min(_GUESS_BYTES, source.size_bytes))

    def read(self, offset: int, length: int) -> bytes:
        """Return a range, asking the source only for what is not here yet."""
        if offset + length > len(self._start) and offset < self._source.size_bytes:
            end = min(offset + length, self._source.size_bytes)
            self._start += self._source.read_at(len(self._start), end - len(self._start))
        return self._start[offset : offset + length]


def _read_table(source: RangeSource) -> archive.SeekTable:
    size = source.size_bytes
    if size < archive.HEADER_BYTES + archive.FOOTER_BYTES:
        raise BundleInvalid(archive.TRUNCATED)
    guess = min(_GUESS_BYTES, size)
    tail = source.read_at(size - guess, guess)
    length = archive.parse_footer(tail[-archive.FOOTER_BYTES :])
    if length > size:
        raise BundleInvalid(archive.TRUNCATED)
    if length > len(tail):
        tail = source.read_at(size - length, length)
    return archive.parse_seek_table(tail[len(tail) - length :], size)


def _check_header_agrees(header: archive.Header, table: archive.SeekTable) -> None:
    expected = [
        (archive.HEADER_BYTES, 0),
        (header.manifest_frame_bytes, ustar.entry_bytes(header.manifest_bytes)),
    ]
    if list(zip(table.compressed_bytes[:2], table.raw_bytes[:2], strict=True)) != expected:
        raise BundleInvalid("the bundle's header and seek table contradict each other; fetch the bundle again")


def _check_ratio(table: archive.SeekTable, file_bytes: int) -> None:
    if sum(table.raw_bytes) > FREE_TOTAL_BYTES + MAX_RATIO * file_bytes:
        raise BundleInvalid(f"the bundle unpacks to more than {MAX_RATIO} times its size; do not open it")


def read_manifest(frame: bytes, header: archive.Header) -> bytes:
    """Return the bytes of ``manifest.json`` from its frame.

    Raises:
        BundleInvalid: they are not what the header says.
    """
    size = header.manifest_bytes
    entry = decompress_frame(frame, ustar.entry_bytes(size))
    text = entry[ustar.BLOCK_BYTES : ustar.BLOCK_BYTES + size]
    if entry[: ustar.BLOCK_BYTES] != ustar.header(MANIFEST_PATH, size) or any(entry[ustar.BLOCK_BYTES + size :]):
        raise BundleInvalid("the manifest has another tar header than it must have; do not trust this bundle")
    if hashlib.sha256(text).digest() != header.manifest_sha256:
        raise BundleInvalid("the manifest has another digest than the header says; do not trust this bundle")
    return text
