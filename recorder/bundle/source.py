"""Where a bundle's bytes come from: anything of a known size that can be read by range."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from recorder.bundle.errors import BundleInvalid, BundleUnavailable

__all__ = ["BytesSource", "FileSource", "RangeSource", "open_source"]


@runtime_checkable
class RangeSource(Protocol):
    """Bytes that can be read by range: a local file, memory, an object in a bucket."""

    @property
    def size_bytes(self) -> int:
        """The length of the whole."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the bytes of a range that lies within the whole.

        Raises:
            BundleUnavailable: they could not be had.
            BundleInvalid: there are fewer of them than there were.
        """
        ...

    def close(self) -> None:
        """Let go of what is held. May be called twice."""
        ...


class BytesSource:
    """A bundle in memory."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)
        self.size_bytes = self._data.nbytes

    def read_at(self, offset: int, length: int) -> bytes:
        """Return a copy of the range."""
        return bytes(self._data[offset : offset + length])

    def close(self) -> None:
        """Nothing to let go of."""


class FileSource:
    """A local file, opened once: what is checked is what is read.

    Raises:
        BundleUnavailable: it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        try:
            self._descriptor: int | None = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise BundleUnavailable(f"{self._path}: {error.strerror}; check the path and its permissions") from error
        status = os.fstat(self._descriptor)
        if not _is_regular(status.st_mode):
            self.close()
            raise BundleUnavailable(f"{self._path} is not a regular file; give the path of a bundle")
        self.size_bytes = status.st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Read the range with pread, leaving no position behind."""
        if self._descriptor is None:
            raise BundleUnavailable(f"{self._path} was closed; open the bundle again")
        parts = []
        while length > 0:
            try:
                part = os.pread(self._descriptor, length, offset)
            except OSError as error:
                raise BundleUnavailable(f"{self._path}: {error.strerror}; copy the bundle to a sound disk") from error
            if not part:
                raise BundleInvalid(f"{self._path} became shorter while it was read; fetch the bundle again")
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def open_source(origin: str | os.PathLike[str] | bytes | bytearray | memoryview | RangeSource) -> RangeSource:
    """Turn a path, a buffer or a source into a source."""
    if isinstance(origin, str | os.PathLike):
        return FileSource(origin)
    if isinstance(origin, bytes | bytearray | memoryview):
        return BytesSource(origin)
    return origin


def _is_regular(mode: int) -> bool:
    import stat

    return stat.S_ISREG(mode)
