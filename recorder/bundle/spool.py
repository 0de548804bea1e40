"""The scratch file members are compressed into before the manifest, which comes first in the bundle, can be written."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from recorder.bundle import ustar
from recorder.bundle.limits import FRAME_BYTES, MAX_MEMBER_BYTES, MIB
from recorder.bundle.zframe import FAST, FrameCompressor

__all__ = ["SpooledMember", "Spool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledMember:
    """One member, compressed."""

    path: str
    size_bytes: int
    sha256: str
    offset: int  #: of its first frame in the spool
    frames: tuple[tuple[int, int], ...]  #: (compressed, raw) lengths
    pinned: bool  #: kept in the bundle although the manifest names no path to it


class Spool:
    """An unnamed temporary file: it is gone when the process is, however that ends."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed in close()
        self._compressor = FrameCompressor()
        self._end = 0
        self.members: dict[str, SpooledMember] = {}

    def add(
        self,
        path: str,
        content: bytes | memoryview | Iterable[bytes | memoryview],
        size_bytes: int,
        *,
        level: int = FAST,
        pinned: bool = False,
    ) -> SpooledMember:
        """Compress one member.

        Args:
            path: the member's path, not used before.
            content: its bytes, whole or in parts of any length.
            size_bytes: their number.
            level: see `recorder.bundle.zframe`.
            pinned: see SpooledMember.

        Raises:
            ValueError: the path is taken, the content is too long or not of the stated size.
            OSError: the scratch file cannot take it.
        """
        if path in self.members or size_bytes > MAX_MEMBER_BYTES:
            raise ValueError(f"{path} is there already, or above {MAX_MEMBER_BYTES} bytes")
        digest = hashlib.sha256()
        start, seen, frames = self._end, 0, []
        pending = bytearray(ustar.header(path, size_bytes))
        parts = [content] if isinstance(content, bytes | memoryview) else content
        for part in parts:
            view = memoryview(part)
            digest.update(view)
            seen += len(view)
            while view:
                room = FRAME_BYTES - len(pending)
                pending += view[:room]
                view = view[room:]
                if len(pending) == FRAME_BYTES:
                    frames.append(self._append(pending, level))
                    pending = bytearray()
        if seen != size_bytes:
            raise ValueError(f"{path} has {seen} bytes, not {size_bytes}")
        pending += ustar.padding(size_bytes)
        if pending:
            frames.append(self._append(pending, level))
        member = SpooledMember(
            path=path,
            size_bytes=size_bytes,
            sha256=digest.hexdigest(),
            offset=start,
            frames=tuple(frames),
            pinned=pinned,
        )
        self.members[path] = member
        return member

    def _append(self, raw: bytearray, level: int) -> tuple[int, int]:
        compressed = self._compressor.compress(raw, level)
        self._file.seek(self._end)
        self._file.write(compressed)
        self._end += len(compressed)
        return len(compressed), len(raw)

    def copy(self, member: SpooledMember, target: BinaryIO) -> None:
        """Append a member's frames to a file, a mebibyte at a time."""
        remaining = sum(compressed for compressed, _ in member.frames)
        self._file.seek(member.offset)
        while remaining:
            part = self._file.read(min(MIB, remaining))
            if not part:
                raise OSError("the scratch file became shorter")
            target.write(part)
            remaining -= len(part)

    def compress(self, raw: bytes, level: int) -> bytes:
        """Compress one frame that does not go through the scratch file."""
        return self._compressor.compress(raw, level)

    def level_for(self, content: bytes | memoryview) -> int:
        """Return the level that suits a picture's content."""
        return self._compressor.level_for(content)

    def close(self) -> None:
        """Give the space back."""
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
