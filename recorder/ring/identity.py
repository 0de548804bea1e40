"""Which process a ring belongs to, in terms that still name it when its pid has been given away."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BOOT_ID_BYTES", "RingIdentity", "SERVICE_BYTES", "printable", "start_ticks_of"]

BOOT_ID_BYTES = 40
SERVICE_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RingIdentity:
    """The recording process. Fields the machine cannot tell are empty or 0."""

    boot_id: str  #: of the kernel; changes with every boot
    pid: int  #: as the process itself sees it
    start_ticks: int  #: when it started, in clock ticks since boot; 0: not known
    pid_namespace: int  #: inode of its PID namespace; 0: not known
    uid: int
    service: str = ""  #: at most 64 bytes of printable text

    @classmethod
    def of_this_process(cls, service: str = "") -> RingIdentity:
        """The identity of the calling process."""
        return cls(
            boot_id=_boot_id(),
            pid=os.getpid(),
            start_ticks=start_ticks_of(os.getpid()) or 0,
            pid_namespace=_pid_namespace(),
            uid=os.geteuid(),
            service=printable(service.encode(errors="replace")[:SERVICE_BYTES]),
        )


def printable(raw: bytes) -> str:
    """Text from padded bytes that anyone may have written: no control characters, nothing undecodable."""
    text = raw.split(b"\0", 1)[0].decode(errors="ignore")
    return "".join(character for character in text if character.isprintable())


def start_ticks_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone, dead but unreaped, or not visible."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command's name in parentheses, which may itself hold spaces and parentheses.
    fields = stat.rpartition(b")")[2].split()
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def _boot_id() -> str:
    try:
        return printable(Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:BOOT_ID_BYTES])
    except OSError:
        return ""


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
