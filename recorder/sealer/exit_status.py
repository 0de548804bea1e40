"""How a process that is not our child ended, as far as the kernel tells a bystander."""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress
from pathlib import Path

__all__ = ["ending_of", "exit_status", "is_orderly"]

#: ioctl PIDFD_GET_INFO with struct pidfd_info of its first version: _IOWR(0xFF, 11, 64 bytes).
_PIDFD_GET_INFO = 0xC040FF0B
_INFO = struct.Struct("<QQ11Ii")
#: Linux 6.15: the exit status, also when the process has been reaped.
_PIDFD_INFO_EXIT = 1 << 3

#: Somebody asked the process to end, and it had no handler that would have closed the recorder.
_ORDERLY = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def exit_status(pidfd: int, pid: int) -> int | None:
    """Return the wait status of a process that has ended; None when it cannot be told.

    Since Linux 6.15 the pidfd knows. Before, it is in /proc for as long as nobody has reaped the process, which a
    supervisor does within a millisecond: often too late.
    """
    with suppress(ImportError, OSError):
        import fcntl

        info = bytearray(_INFO.size)
        struct.pack_into("<Q", info, 0, _PIDFD_INFO_EXIT)
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        mask, *_, status = _INFO.unpack(info)
        if mask & _PIDFD_INFO_EXIT:
            return int(status)
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        if fields[0] in (b"Z", b"X"):
            return int(fields[49])
    return None


def is_orderly(status: int | None) -> bool:
    """Say whether a process was ended by whoever runs it, rather than by a fault: not an incident."""
    return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) in _ORDERLY


def ending_of(status: int | None) -> str:
    """Describe an ending: "by SIGSEGV", "with exit status 0", or that it was not seen."""
    if status is None:
        return "how is not known"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(ValueError):
            return f"by {signal.Signals(number).name}"
        return f"by signal {number}"
    return f"with exit status {os.WEXITSTATUS(status)}"
