"""A range of a file as the body of a request, sent no faster than it may."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Body", "Bandwidth", "Stopped"]


class Stopped(Exception):
    """The upload was asked to end; it goes on where it was the next time."""


class Bandwidth:
    """Spreads bytes over time.

    Args:
        bytes_per_second: how many; None: without a bound.
        stopping: ends a pause early.
    """

    def __init__(self, bytes_per_second: float | None, stopping: threading.Event) -> None:
        self._rate = bytes_per_second
        self._stopping = stopping
        self._free_at = 0.0

    def spend(self, length: int) -> None:
        """Wait until bytes sent before have had their time.

        Raises:
            Stopped: while waiting, or before.
        """
        now = time.monotonic()
        if self._rate is not None:
            pause = self._free_at - now
            self._free_at = max(self._free_at, now) + length / self._rate
            if pause > 0:
                self._stopping.wait(pause)
        if self._stopping.is_set():
            raise Stopped


class Body(io.RawIOBase):
    """Bytes ``offset`` to ``offset + length`` of a file; may be read again from its beginning, for a retry."""

    def __init__(self, file: BinaryIO, offset: int, length: int, bandwidth: Bandwidth) -> None:
        self._file, self._offset, self._length, self._bandwidth = file, offset, length, bandwidth
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read again."""
        return True

    def tell(self) -> int:
        """Return the position within the range."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move within the range."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = min(max(0, base + offset), self._length)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read some, when the bandwidth allows."""
        view = memoryview(buffer)
        wanted = min(view.nbytes, self._length - self._position)
        if wanted <= 0:
            return 0
        self._bandwidth.spend(wanted)
        self._file.seek(self._offset + self._position)
        read = self._file.readinto(view[:wanted])  # type: ignore[attr-defined]  # a buffered reader has it
        self._position += read
        return int(read)
