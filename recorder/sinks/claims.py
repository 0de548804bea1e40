"""Small records that exactly one writer makes, among all machines that share a sink: who files a ticket."""

from __future__ import annotations

import os
import re
import secrets
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

__all__ = ["Claims", "DirectoryClaims", "check_claim_name"]

#: Names that every file system and object store takes.
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,120}")
#: A claim is about one hour; a week later nobody asks for it.
_KEPT_SECONDS = 7 * 86400.0
#: Claims are some hundred bytes; nobody reads more of one.
_READ_BYTES = 2**16
_PARTIAL = ".partial"


class Claims(ABC):
    """Named records. All methods raise `OSError` or the sink's SinkUnavailable when the sink cannot be used."""

    @abstractmethod
    def take(self, name: str, content: bytes) -> bool:
        """Make a record, whole, unless there is one of that name; return whether it was made. ValueError: no name."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The record's content, at most 64 KiB of it; None when there is none. Anyone may have written it."""

    @abstractmethod
    def names(self, prefix: str) -> list[str]:
        """The names that begin with ``prefix``, sorted."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Delete a record; that there is none is no error."""


class DirectoryClaims(Claims):
    """Files of a hidden directory, each made by one hard link: it appears whole, and for one writer only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, name: str, content: bytes) -> bool:
        """Link a finished file to the name; where there are no links, make it exclusively and then fill it."""
        check_claim_name(name)
        self.path.mkdir(parents=True, exist_ok=True)
        self._forget_old()
        partial = self.path / f".{secrets.token_hex(8)}{_PARTIAL}"
        try:
            with partial.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(partial, self.path / name)
            except FileExistsError:
                return False
            except OSError:
                try:
                    with (self.path / name).open("xb") as file:
                        file.write(content)
                except FileExistsError:
                    return False
            return True
        finally:
            partial.unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """Read the file; a link there is not followed."""
        check_claim_name(name)
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(descriptor, _READ_BYTES)
        except OSError:  # a directory
            return None
        finally:
            os.close(descriptor)

    def names(self, prefix: str) -> list[str]:
        """List the directory."""
        try:
            with os.scandir(self.path) as entries:
                return sorted(
                    each.name for each in entries if each.name.startswith(prefix) and _NAME.fullmatch(each.name)
                )
        except FileNotFoundError:
            return []

    def drop(self, name: str) -> None:
        """Delete the file."""
        check_claim_name(name)
        (self.path / name).unlink(missing_ok=True)

    def _forget_old(self) -> None:
        oldest = time.time() - _KEPT_SECONDS
        for path in self.path.iterdir():
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()


def check_claim_name(name: str) -> None:
    """ValueError unless ``name`` may name a claim."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a claim: use lower-case letters, digits, dots and dashes.")
