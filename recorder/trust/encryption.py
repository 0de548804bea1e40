"""Bundles for some eyes only: the age format (https://age-encryption.org/v1), X25519 recipients, by pyrage.

``age -d -i identity.txt bundle.zst.age`` opens what is written here, and the other way round.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from recorder.bundle.durable import durable_file
from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from recorder.bundle.limits import MIB
from recorder.bundle.source import RangeSource
from recorder.trust import TrustError

__all__ = ["ENCRYPTED_SUFFIX", "decrypted", "encrypt_file", "is_encrypted"]

ENCRYPTED_SUFFIX = ".age"

_MAGIC = b"age-encryption.org/v1\n"

#: An identity file is some lines.
_MAX_IDENTITY_BYTES = 65_536


def is_encrypted(source: RangeSource) -> bool:
    """Whether these bytes begin as an age file does."""
    return source.size_bytes > len(_MAGIC) and source.read_at(0, len(_MAGIC)) == _MAGIC


def encrypt_file(source: Path, target: Path, recipients: Sequence[str]) -> None:
    """Write an encrypted copy, durable and complete or not at all.

    Raises:
        TrustError: a recipient is of no use, or the library is not installed.
        OSError: the source cannot be read or the target not be written; nothing is left behind.
    """
    age = _library()
    try:
        keys = [age.x25519.Recipient.from_str(recipient) for recipient in recipients]
    except age.RecipientError as error:
        raise TrustError(f"a recipient cannot be used: {error}; take it from `age-keygen -y identity.txt`") from error
    with source.open("rb") as plain, durable_file(target) as file:
        age.encrypt_io(plain, file, keys)


def decrypted(source: RangeSource, identities: Sequence[str | os.PathLike[str]]) -> RangeSource:
    """Return the decrypted bytes, in an unnamed temporary file; the encrypted source is closed.

    Args:
        source: an age file.
        identities: files of X25519 identities, as `age-keygen` writes them.

    Raises:
        TrustError: there is no identity, none of them opens it, or the library is not installed.
        BundleInvalid: it is damaged.
        BundleUnavailable: there is no room for the decrypted bytes.
    """
    if not identities:
        raise TrustError("the bundle is encrypted; name the file of the identity that may read it: --identity FILE")
    age = _library()
    keys = [key for path in identities for key in _identities(age, Path(path))]
    plain = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the source that is returned
    try:
        age.decrypt_io(_Reading(source), plain, keys)
        plain.flush()
    except age.DecryptError as error:
        plain.close()
        if "No matching keys" in str(error):
            raise TrustError(
                "the bundle is encrypted to others; name the file of an identity that may read it: --identity FILE"
            ) from error
        raise BundleInvalid(f"the encrypted bundle is damaged ({error}); fetch it again") from error
    except OSError as error:
        plain.close()
        if error.errno is not None:
            raise BundleUnavailable(f"the bundle cannot be decrypted here: {error.strerror}; free some room") from error
        raise BundleInvalid("the encrypted bundle is truncated or damaged; fetch it again") from error
    source.close()
    return _PlainSource(plain)


class _PlainSource:
    """Decrypted bytes: gone with the process, however that ends."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size_bytes = os.fstat(file.fileno()).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return the range."""
        return os.pread(self._file.fileno(), length, offset)

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


class _Reading:
    """A source as a file that is read from its beginning; read ahead, as pyrage asks for little at a time."""

    def __init__(self, source: RangeSource) -> None:
        self._source = source
        self._position = 0
        self._ahead = b""
        self._used = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most so many."""
        if self._used == len(self._ahead):
            length = min(MIB, self._source.size_bytes - self._position)
            self._ahead, self._used = self._source.read_at(self._position, length), 0
            self._position += length
        end = len(self._ahead) if size < 0 else min(len(self._ahead), self._used + size)
        part, self._used = self._ahead[self._used : end], end
        return part


def _identities(age: Any, path: Path) -> list[Any]:
    try:
        with path.open("rb") as file:
            lines = file.read(_MAX_IDENTITY_BYTES).decode("ascii").split()
        found = [age.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-")]
    except OSError as error:
        raise TrustError(f"the identity {path} cannot be read: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, age.IdentityError) as error:
        raise TrustError(f"{path} is no file of age identities; make one with `age-keygen -o {path.name}`") from error
    if not found:
        raise TrustError(f"{path} holds no age identity; make one with `age-keygen -o {path.name}`")
    return found


def _library() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise TrustError("encryption needs a library: pip install 'vision-flight-recorder[crypto]'") from error
    return pyrage
