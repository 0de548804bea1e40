"""The bundle as a file for a tracker: the bytes as they stand, streamed, never rewritten."""

from __future__ import annotations

import hashlib
import io
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from recorder.bundle.errors import BundleUnavailable
from recorder.bundle.reader import Bundle

__all__ = ["Attachment", "Multipart", "Raw", "from_bundle", "from_bytes", "from_file"]

#: What sealers call bundles, and nothing that a shell, a tracker or a browser would take for more than a name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.zst(?:\.age)?")
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of known size that can be read again."""

    name: str
    size_bytes: int
    open: Callable[[], IO[bytes]]
    media_type: str = "application/zstd"

    def sha256(self) -> str:
        """Read it all and return its digest."""
        digest = hashlib.sha256()
        with self.open() as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()


def from_file(path: Path, bundle_id: str) -> Attachment:
    """A bundle that is a file here, encrypted or not."""
    suffix = ".zst.age" if path.name.endswith(".age") else ".zst"
    name = path.name if _NAME.fullmatch(path.name) else f"incident-{bundle_id[:12]}{suffix}"
    return Attachment(name, path.stat().st_size, lambda: path.open("rb"))


def from_bundle(bundle: Bundle, location: str) -> Attachment:
    """A bundle that is elsewhere, read by ranges."""
    last = location.rpartition("/")[2]
    name = last if _NAME.fullmatch(last) else f"incident-{bundle.id[:12]}.zst"
    return Attachment(name, bundle.size_bytes, lambda: io.BufferedReader(_Ranges(bundle), _CHUNK_BYTES))


def from_bytes(name: str, data: bytes, media_type: str) -> Attachment:
    """A file that is in memory."""
    return Attachment(name, len(data), lambda: io.BytesIO(data), media_type)


class _Ranges(io.RawIOBase):
    """A bundle's file, front to back."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the next range."""
        amount = min(len(buffer), self._bundle.size_bytes - self._place)
        if amount <= 0:
            return 0
        buffer[:amount] = self._bundle.read_range(self._place, amount)
        self._place += amount
        return amount


class Raw:
    """A file as the whole body of a request."""

    content_type = "application/octet-stream"

    def __init__(self, file: Attachment) -> None:
        self.length = file.size_bytes
        self._name = file.name
        self._file = file.open()
        self._left = file.size_bytes

    def read(self, amount: int = -1, /) -> bytes:
        """Return the next bytes, never more than were announced.

        Raises:
            BundleUnavailable: the file became shorter.
        """
        if not self._left:
            return b""
        data = self._file.read(min(amount if amount >= 0 else self._left, self._left))
        if not data:
            raise BundleUnavailable(f"{self._name} became shorter while it was sent; file it again")
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class Multipart:
    """A file as the field ``file`` of a form (RFC 7578)."""

    def __init__(self, file: Attachment) -> None:
        boundary = f"flight-recorder-{secrets.token_hex(16)}"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        # The name is of a grammar that needs no escaping.
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n'
            f"Content-Type: {file.media_type}\r\n\r\n"
        )
        tail = f"\r\n--{boundary}--\r\n"
        self._body = Raw(file)
        self._head, self._tail = io.BytesIO(head.encode("ascii")), io.BytesIO(tail.encode("ascii"))
        self.length = len(head) + file.size_bytes + len(tail)

    def read(self, amount: int = -1, /) -> bytes:
        """Return the next bytes."""
        if amount < 0:
            return self._head.read() + self._body.read() + self._tail.read()
        return self._head.read(amount) or self._body.read(amount) or self._tail.read(amount)

    def close(self) -> None:
        """Let go of the file."""
        self._body.close()
