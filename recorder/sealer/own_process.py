"""What a process does to be a sealer: it is modest, is not ended in passing, and is the only one for its directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SealerLock", "expendable", "fall_silent", "settle_in"]

#: A thousand workers.
MANY_FILES = 8_192
OOM_SCORE = Path("/proc/self/oom_score_adj")
MOST_EXPENDABLE = b"1000"


def settle_in() -> None:
    """Yield to the service, allow for its workers' files, and do not end when it is asked to."""
    with contextlib.suppress(OSError):
        os.nice(10)
    # One sealer serves all workers of a service, with half a dozen files for each; a service's limit is its own.
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    # Who stops a service by asking every process of it to end, as systemd does, asks us too: we end when it has and all
    # of it is sealed. A handler that does nothing, since children would inherit that the signal is ignored.
    signal.signal(signal.SIGTERM, lambda number, frame: None)


def fall_silent() -> None:
    """Write to nobody from here on; the host has heard why it cannot start, if it cannot."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


@contextlib.contextmanager
def expendable() -> Iterator[None]:
    """Be what the kernel ends first when memory runs out, for the time in which this process takes some.

    Anyone may raise his own score and take it back (proc(5), oom_score_adj). Not for longer: a service that outgrows
    its limit is to die before its sealer, which else could not tell of it.
    """
    before = _exchange_score(MOST_EXPENDABLE)
    try:
        yield
    finally:
        if before is not None:
            _exchange_score(before)


def _exchange_score(score: bytes) -> bytes | None:
    with contextlib.suppress(OSError):
        before = OOM_SCORE.read_bytes()
        OOM_SCORE.write_bytes(score)
        return before
    return None


@dataclass(frozen=True, slots=True)
class SealerLock:
    """The lock of a directory's sealer, held until its process ends.

    Attributes:
        path: of its file.
        descriptor: of that file.
    """

    path: Path
    descriptor: int

    @classmethod
    def take(cls, path: Path) -> SealerLock | None:
        """Become the directory's sealer; None when there is one. OSError: the directory cannot be written."""
        while True:
            lock = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            try:
                fcntl.lockf(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock.descriptor)
                return None
            # A sealer that has just ended removed the file under its lock: then ours is a lock on nothing.
            if lock.is_held:
                return lock
            os.close(lock.descriptor)

    @property
    def is_held(self) -> bool:
        """Whether the file that others would lock is still this one; somebody may have removed it."""
        try:
            return os.fstat(self.descriptor).st_ino == self.path.stat().st_ino
        except OSError:
            return False
