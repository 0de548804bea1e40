"""A directory that is written into without following anything: no symlink, no path that leads out of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from recorder.bundle.errors import BundleUnavailable

__all__ = ["Folder"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """A target directory, held open; names in it are single words, never paths.

    Args:
        path: the directory; made with its parents if it is not there.
        force: write into a directory that is not empty, replacing files of the same names.

    Raises:
        BundleUnavailable: it is a file, a symlink, not empty (without ``force``), or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, _DIRECTORY)
        except OSError as error:
            reason = "it is a symbolic link" if self.path.is_symlink() else error.strerror
            raise BundleUnavailable(
                f"{self.path} cannot be used as the target: {reason}; name a new directory"
            ) from error
        with os.scandir(self._descriptor) as entries:
            occupied = any(entries)
        if occupied and not force:
            self.close()
            raise BundleUnavailable(f"{self.path} is not empty; name a new directory, or write into it with --force")

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def free_bytes(self) -> int:
        """Return how much an ordinary user may still write here."""
        state = os.fstatvfs(self._descriptor)
        return state.f_bavail * state.f_frsize

    def write(self, folder: str, name: str, parts: Iterable[bytes]) -> Path:
        """Write one file, as ``folder/name`` or, with an empty folder, as ``name``.

        A file or a symlink of that name is replaced, never written through.

        Raises:
            BundleUnavailable: it cannot be written; no part of it is left.
        """
        if any(word in ("", ".", "..") or "/" in word or "\0" in word for word in (folder or "x", name)):
            raise ValueError(f"{folder!r}, {name!r} are not plain names")
        target = self.path / folder / name
        try:
            inside = self._open_folder(folder) if folder else os.dup(self._descriptor)
            try:
                _write_new(inside, name, parts)
            finally:
                os.close(inside)
        except OSError as error:
            raise BundleUnavailable(
                f"{target} cannot be written: {error.strerror}; choose another directory"
            ) from error
        return target

    def _open_folder(self, folder: str) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, dir_fd=self._descriptor)
        return os.open(folder, _DIRECTORY, dir_fd=self._descriptor)


def _write_new(inside: int, name: str, parts: Iterable[bytes]) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=inside)
    descriptor = os.open(name, _NEW_FILE, 0o666, dir_fd=inside)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
    except BaseException:
        os.unlink(name, dir_fd=inside)
        raise
