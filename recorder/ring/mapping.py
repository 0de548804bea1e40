"""The file behind a ring, allocated in full before it gets its name, and its mapping into this process."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from recorder.ring.errors import RingUnavailable

__all__ = ["Mapping", "PARTIAL_SUFFIX", "allocate", "prefault"]

#: Of a file that is still being made; one left behind by a crash is safe to remove.
PARTIAL_SUFFIX = ".partial"
_ZEROS = bytes(1 << 20)

#: Linux 5.14: populate page tables for writing without changing a byte. Not in the mmap module of Python 3.11.
_MADV_POPULATE_WRITE = 23
#: While the kernel maps one such piece, a host that allocates may wait for it: well under a millisecond.
_PREFAULT_BYTES = 1 << 20


class Mapping:
    """A shared, writable mapping. It is never unmapped by hand: a thread may be copying to an address in it, so it goes
    with the last reference to it or to a view of it."""

    __slots__ = ("_file_size", "_inode", "_path", "address", "size_bytes", "view", "words")

    def __init__(self, file: mmap.mmap, path: Path, inode: int) -> None:
        self._file_size = file.size
        self._path = path
        self._inode = inode
        self.size_bytes = len(file)
        self.view = memoryview(file)
        self.words = self.view.cast("Q")  #: the same bytes as native words: one store each, never torn
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(file))

    def cut_short(self) -> bool:
        """Whether someone truncated the file: touching what is gone would kill the process with SIGBUS.

        Asked before every range is handed out (a third of a microsecond); only a cut in the middle of a copy is missed.
        """
        try:
            if self._file_size() >= self.size_bytes:
                return False
            # The host may have closed our descriptor and got its number for a file of its own: ask by name.
            status = self._path.lstat()
        except (OSError, ValueError):
            return False
        return status.st_ino == self._inode and status.st_size < self.size_bytes


def allocate(path: Path, size_bytes: int, header: bytes) -> Mapping:
    """Create ``path`` with ``size_bytes`` of allocated bytes that begin with ``header``, and map it.

    RingUnavailable when the path is taken, the room is not there, or the directory cannot be written. Every byte is
    allocated before the first is touched: a sparse file on a full tmpfs would kill the process with SIGBUS later.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RingUnavailable(
            f"No ring can be made in {path.parent}: {error.strerror}; name a directory that can be written."
        ) from error
    try:
        _fill(descriptor, size_bytes)
        file = mmap.mmap(descriptor, size_bytes)
        file[: len(header)] = header
        inode = os.fstat(descriptor).st_ino
        _publish(partial, path)
    except OSError as error:
        raise RingUnavailable(_sentence(path, size_bytes, error)) from error
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            partial.unlink()
    return Mapping(file, path, inode)


def prefault(mapping: Mapping, wanted: Callable[[], bool]) -> None:
    """Map every page, piece by piece while ``wanted``, without the interpreter's lock where the kernel knows how."""
    populate = _populate_by_madvise(mapping.address)
    for start in range(0, mapping.size_bytes, _PREFAULT_BYTES):
        if not wanted():
            return
        length = min(_PREFAULT_BYTES, mapping.size_bytes - start)
        if populate is None or not populate(start, length):
            populate = None
            # Reading one byte a page maps it too (for writing, on tmpfs) and cannot disturb a thread that writes.
            sum(mapping.view[start : start + length : mmap.PAGESIZE])


def _populate_by_madvise(address: int) -> Callable[[int, int], bool] | None:
    if os.uname().sysname != "Linux":
        return None
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise.restype = ctypes.c_int
    return lambda start, length: bool(madvise(address + start, length, _MADV_POPULATE_WRITE) == 0)


def _fill(descriptor: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size_bytes)
        return
    for start in range(0, size_bytes, len(_ZEROS)):  # macOS
        os.pwrite(descriptor, _ZEROS[: size_bytes - start], start)


def _publish(partial: Path, path: Path) -> None:
    """Give the finished file its name; unlike a rename, a link never replaces a file that is there."""
    try:
        os.link(partial, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        partial.rename(path)


def _sentence(path: Path, size_bytes: int, error: OSError) -> str:
    if error.errno == errno.EEXIST:
        return (
            f"There is a file at {path} already; recover it with `replay recover`, remove it, or choose another path."
        )
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.ENOMEM):
        return f"There is no room for a ring of {size_bytes} bytes in {path.parent}; lower max_bytes or free some."
    return f"No ring of {size_bytes} bytes can be made at {path}: {error.strerror}; choose another path."
