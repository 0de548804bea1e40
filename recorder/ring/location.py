"""Where a ring can live: memory first, never in a directory that others control, never more than is there."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from recorder.ring.cgroup import memory_headroom_bytes
from recorder.ring.errors import RingUnavailable
from recorder.ring.identity import RingIdentity, start_ticks_of
from recorder.ring.layout import RingHeader

__all__ = [
    "BESIDE_SUFFIXES",
    "RING_SUFFIX",
    "STALE_SECONDS",
    "choose_directory",
    "is_alive",
    "private_directory",
    "private_name",
    "ring_name",
]

RING_SUFFIX = ".ring"
#: What a sealer keeps beside a ring: after the ring's name.
BESIDE_SUFFIXES = (".status", ".status.partial", ".progress", ".track")
#: Beyond any pause of a heartbeat sent every few seconds, short of what an operator would wait for.
STALE_SECONDS = 60.0
#: Docker gives /dev/shm 64 MiB; half of that still holds a few seconds of video, less is hardly worth its tmpfs.
_LEAST_BYTES = 16 * 2**20
#: Of a file system in memory, all rings of a user together; DataLoader workers and others live there too.
_ALL_RINGS_SHARE = 3 / 4
_TRIES = 5
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the point; the directory in it is private and checked


def choose_directory(
    wanted_bytes: int, *, shared_memory: Path = _SHARED_MEMORY, temporary: Path | None = None
) -> tuple[Path, int, tuple[str, ...]]:
    """Find a private directory for a ring: ``(directory, usable bytes, warnings)``.

    At most half of what is free is usable, of the file system and of the container's memory: DataLoader workers live
    in /dev/shm too. Memory with less room than wanted is preferred to a disk (whose write-back stalls a mapping for
    tens of milliseconds) down to 16 MiB. Every compromise is a warning, one sentence each. RingUnavailable when there
    is no place at all.
    """
    warnings: list[str] = []
    places = [(shared_memory, True)] if shared_memory.is_dir() else []
    places.append((temporary or Path(tempfile.gettempdir()), False))
    for parent, in_memory in places:
        try:
            directory, usable = _measured(parent, counts_as_memory=in_memory or _is_tmpfs(parent))
        except RingUnavailable as error:
            warnings.append(str(error))
            continue
        except OSError as error:
            warnings.append(f"No ring can be kept in {parent}: {error.strerror}.")
            continue
        if usable >= min(wanted_bytes, _LEAST_BYTES):
            if usable < wanted_bytes:
                warnings.append(
                    f"The ring was reduced from {wanted_bytes} to {usable} bytes, half of what is free at {parent}; "
                    "give the container more shared memory (--shm-size) or memory, or lower max_bytes."
                )
            if places[0][0] != parent:
                warnings.append(f"The ring is in {parent} instead of {shared_memory}; on a disk, recording can stall.")
            return directory, min(usable, wanted_bytes), tuple(warnings)
        warnings.append(f"Only {usable} bytes of {parent} can be used for a ring.")
    raise RingUnavailable(f"There is no place for a ring. {' '.join(warnings)} Name one with ring=PATH.")


def _measured(parent: Path, *, counts_as_memory: bool) -> tuple[Path, int]:
    """Make the private directory and measure it, again where a sealer that ends has just taken the empty one away."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            directory = private_directory(parent)
            return directory, _usable_bytes(directory, counts_as_memory=counts_as_memory)
    directory = private_directory(parent)
    return directory, _usable_bytes(directory, counts_as_memory=counts_as_memory)


def ring_name() -> str:
    """A fresh file name that nobody can guess and occupy beforehand."""
    return secrets.token_hex(8) + RING_SUFFIX


def private_name() -> str:
    """What the caller's own directories are called, in memory and on disk."""
    return f"flight-recorder-{os.geteuid()}"


def private_directory(parent: Path) -> Path:
    """The caller's own 0700 directory in ``parent``, made when missing; RingUnavailable when someone else placed it."""
    directory = parent / private_name()
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise RingUnavailable(f"No directory can be made in {parent}: {error.strerror}.") from error
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise RingUnavailable(f"{directory} is no directory (a symbolic link, perhaps); remove it.")
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise RingUnavailable(f"{directory} can be entered by others; remove it or give it to us alone (chmod 700).")
    return directory


def is_alive(header: RingHeader, *, stale_seconds: float = STALE_SECONDS) -> bool | None:
    """Whether the process that made a ring still runs; None when that cannot be told from here.

    Under the same kernel and PID namespace by pid and start time. Otherwise the pid means nothing here and only an
    old heartbeat proves a death; a fresh one proves nothing.
    """
    theirs, ours = header.identity, RingIdentity.of_this_process()
    same_kernel = theirs.boot_id == ours.boot_id
    if same_kernel and theirs.pid_namespace == ours.pid_namespace:
        if ours.start_ticks and theirs.start_ticks:
            return start_ticks_of(theirs.pid) == theirs.start_ticks
        return _exists(theirs.pid)
    # The monotonic clock never jumps but belongs to one kernel; across machines there is only the wall clock.
    if same_kernel and ours.boot_id:
        age_ns = time.monotonic_ns() - header.heartbeat_monotonic_ns
    else:
        age_ns = time.time_ns() - header.heartbeat_ns
    return False if age_ns > stale_seconds * 1e9 else None


def _exists(pid: int) -> bool:
    if not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _usable_bytes(directory: Path, *, counts_as_memory: bool) -> int:
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    headroom = memory_headroom_bytes() if counts_as_memory else None
    usable = (free if headroom is None else min(free, headroom)) // 2
    if counts_as_memory:
        # Each worker takes half of what the ones before it left; together they stop at the cap.
        usable = min(
            usable, max(0, int(status.f_blocks * status.f_frsize * _ALL_RINGS_SHARE) - _rings_bytes(directory))
        )
    return usable


def _rings_bytes(directory: Path) -> int:
    """Sizes of all rings of this user there, whichever worker or configuration they belong to."""
    total = 0
    for each in directory.iterdir():
        with suppress(OSError):  # removed meanwhile
            for path in each.iterdir():
                if path.suffix == RING_SUFFIX:
                    with suppress(OSError):
                        total += path.stat().st_size
    return total


def _is_tmpfs(path: Path) -> bool:
    """Whether the file system that holds ``path`` is memory."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return False
    resolved = path.resolve()
    best, kind = Path("/"), ""
    for line in mounts:
        _, point, file_system, *_ = line.split(" ")
        mount = Path(point)
        if resolved.is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, file_system
    return kind in ("tmpfs", "ramfs")
