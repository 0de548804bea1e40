"""Writes one bundle: members first, into a scratch file, then the manifest that lists them, then the whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from recorder.bundle import archive, codec, strictjson, ustar
from recorder.bundle.check import features_of, paths_named
from recorder.bundle.durable import durable_file
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.image_members import ImageMembers
from recorder.bundle.limits import MAX_MANIFEST_BYTES, MAX_MEMBERS
from recorder.bundle.manifest import Image, Manifest, Member
from recorder.bundle.parse import parse_manifest
from recorder.bundle.paths import FOLDERS, MANIFEST_PATH, folder_of, is_member_path
from recorder.bundle.spool import Spool, SpooledMember
from recorder.bundle.tensor_members import TensorMembers
from recorder.bundle.values import TensorValue
from recorder.bundle.zframe import FAST, THOROUGH

__all__ = ["BundleWriter"]

#: Given the bytes of ``manifest.json``, returns the annotations (`recorder.bundle.annotations`).
Annotate = Callable[[bytes], Sequence[bytes]]


def _plain(text: bytes) -> Sequence[bytes]:
    return ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """The parts of the file to be."""

    text: bytes  #: manifest.json
    head: bytes
    members: list[SpooledMember]
    tail: bytes


class BundleWriter:
    """Collects images and tensors in a scratch file and writes them as one bundle.

    Memory stays within a few times the largest member. Equal images and tensors are stored once. Not for use from two
    threads at once.

    Args:
        scratch_directory: where the unnamed scratch file lives; it takes about the size of the bundle.
        taken: paths that images and tensors are not given: those of members that are added as they stand.
    """

    def __init__(self, scratch_directory: str | os.PathLike[str], *, taken: Collection[str] = ()) -> None:
        self._spool = Spool(Path(scratch_directory))
        self._images = ImageMembers(self._spool, frozenset(taken))
        self._tensors = TensorMembers(self._spool, frozenset(taken))

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the scratch file back. May be called twice."""
        self._spool.close()

    def image(self, frame_id: int, name: str, pixels: npt.NDArray[Any], source: str = "array") -> Image:
        """Store pixels without loss: a PNG file, or raw bytes where PNG has no such form.

        Args:
            frame_id: the frame it belongs to.
            name: the image's name within the frame.
            pixels: HW or HWC, uint8 or uint16.
            source: "array" or "pil".

        Raises:
            ValueError: another dtype or number of dimensions, or too many pixels.
        """
        return self._images.add(frame_id, name, pixels, source)

    def encoded_image(self, frame_id: int, name: str, data: bytes, source: str = "encoded") -> Image:
        """Store an encoded file as it is, with the digest of its decoded pixels.

        A PNG, JPEG or WebP file that cannot be decoded has height, width and channels zero and no pixel digest;
        anything else is stored as "raw" bytes without one.

        Args:
            frame_id: the frame it belongs to.
            name: the image's name within the frame.
            data: the file.
            source: "encoded" or "path".
        """
        return self._images.add_file(frame_id, name, data, source)

    def tensor_like(
        self, data: bytes | bytearray | memoryview, like: TensorValue, shape: tuple[int, ...] | None = None
    ) -> TensorValue:
        """Store bytes as `tensor` does, described as another tensor is, but for the shape where one is given.

        Raises:
            ValueError: as `tensor`.
        """
        return self.tensor(
            data,
            container=like.container,
            dtype=like.dtype,
            shape=like.shape if shape is None else shape,
            strides=like.strides,
            alignment=like.alignment,
            device=like.device,
        )

    def tensor(
        self,
        data: bytes | bytearray | memoryview,
        *,
        container: str,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        alignment: int | None,
        device: str,
    ) -> TensorValue:
        """Store a tensor's bytes, in the order values.TensorValue describes, once for all tensors of equal bytes.

        Raises:
            ValueError: dtype unknown, strides do not fit the shape, or ``data`` has another length than shape needs.
        """
        return self._tensors.add(
            data,
            container=container,
            dtype=dtype,
            shape=tuple(shape),
            strides=tuple(strides),
            alignment=alignment,
            device=device,
        )

    def add(self, path: str, content: bytes | Iterable[bytes | memoryview], size_bytes: int) -> str:
        """Store a member that the manifest names by digest only, such as ``models/<digest>.safetensors``.

        Args:
            path: within the grammar of member paths.
            content: its bytes, whole or in parts.
            size_bytes: their number.

        Returns:
            The sha256 of the content, hex.

        Raises:
            ValueError: the path is not allowed or taken, or the size is wrong.
        """
        if not is_member_path(path):
            raise ValueError(f"{path!r} is not a path a member may have (schemas/FORMAT.md)")
        return self._spool.add(path, content, size_bytes, pinned=True).sha256

    def holds(self, path: str) -> bool:
        """Whether a member of that path was stored."""
        return path in self._spool.members or path == self._tensors.open_path

    def finish(
        self,
        path: str | os.PathLike[str],
        manifest: Manifest,
        annotate: Annotate = _plain,
    ) -> str:
        """Write the bundle and make it durable; it appears under its name complete or not at all.

        Members that the manifest does not name are left out, except those given to `add`. Floats of the manifest that
        are not finite become null, integers beyond 64 bits strings, lone surrogates ``?``.

        Args:
            path: the file; replaced if it exists.
            manifest: its ``members`` and ``required_features`` are filled in here.
            annotate: given the bytes of ``manifest.json``, returns the annotations (`recorder.bundle.annotations`).

        Returns:
            The bundle id: the sha256 of ``manifest.json``, hex.

        Raises:
            BundleInvalid: the manifest is one the reader would refuse: it breaks the schema, contradicts itself, names
                what was not stored or is too large.
            OSError: the file cannot be written; nothing is left behind.
        """
        text, chosen = self._checked(manifest)
        self._assemble(Path(path), self._layout(text, chosen, annotate))
        return hashlib.sha256(text).hexdigest()

    def check(self, manifest: Manifest) -> None:
        """Say whether `finish` would take a manifest, or a part of one: other frames than those of the whole, say.

        Raises:
            BundleInvalid: as `finish`.
        """
        self._checked(manifest)

    def measure(self, manifest: Manifest, annotate: Annotate = _plain) -> int:
        """Return how many bytes the bundle would take with this manifest and these annotations."""
        layout = self._layout(*self._told(manifest), annotate)
        packed = sum(compressed for member in layout.members for compressed, _ in member.frames)
        return len(layout.head) + packed + len(layout.tail)

    @property
    def members(self) -> Mapping[str, SpooledMember]:
        """What is stored, by path."""
        return self._spool.members

    def _told(self, manifest: Manifest) -> tuple[bytes, list[SpooledMember]]:
        """The manifest's text, and the members it names."""
        self._tensors.close_group()
        named = paths_named(manifest)
        chosen = sorted(
            (member for member in self._spool.members.values() if member.pinned or member.path in named),
            key=lambda member: (list(FOLDERS).index(folder_of(member.path)), member.path),
        )
        manifest = replace(manifest, members=_numbered(chosen), required_features=features_of(manifest))
        return strictjson.dumps(codec.to_json(manifest)), chosen

    def _checked(self, manifest: Manifest) -> tuple[bytes, list[SpooledMember]]:
        """As `_told`; what the reader would refuse is not written."""
        text, chosen = self._told(manifest)
        if len(text) > MAX_MANIFEST_BYTES or len(chosen) > MAX_MEMBERS:
            raise BundleInvalid(
                f"the manifest would take {len(text)} bytes for {len(chosen)} members, more than a bundle may have; "
                "record shorter windows or less metadata"
            )
        parse_manifest(text)
        return text, chosen

    def _layout(self, text: bytes, chosen: list[SpooledMember], annotate: Annotate) -> _Layout:
        entry = ustar.header(MANIFEST_PATH, len(text)) + text + ustar.padding(len(text))
        manifest_frame = self._spool.compress(entry, THOROUGH)
        end_frame = self._spool.compress(ustar.END_OF_ARCHIVE, FAST)
        header = archive.pack_header(len(manifest_frame), len(text), hashlib.sha256(text).digest())
        frames = [(len(header), 0), (len(manifest_frame), len(entry))]
        frames += [frame for member in chosen for frame in member.frames]
        frames.append((len(end_frame), len(ustar.END_OF_ARCHIVE)))
        annotations = annotate(text)
        frames += [(len(frame), 0) for frame in annotations]
        tail = end_frame + b"".join(annotations) + archive.pack_seek_table(frames)
        return _Layout(text, header + manifest_frame, chosen, tail)

    def _assemble(self, path: Path, layout: _Layout) -> None:
        with durable_file(path) as file:
            file.write(layout.head)
            for member in layout.members:
                self._spool.copy(member, file)
            file.write(layout.tail)


def _numbered(members: list[SpooledMember]) -> tuple[Member, ...]:
    """The manifest's list: members tile the frames from the third on."""
    listed, first = [], 2
    for member in members:
        count = len(member.frames)
        listed.append(
            Member(
                path=member.path,
                size_bytes=member.size_bytes,
                sha256=member.sha256,
                first_frame=first,
                frame_count=count,
            )
        )
        first += count
    return tuple(listed)
