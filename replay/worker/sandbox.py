"""What a replay worker may not do: reach the network, write files, start programs, outlive its parent.

Two layers. The kernel's, where it lets an ordinary process ask for them: an empty network namespace and a Landlock
domain without write access. And Python's audit hook, which also turns an attempt into a readable sentence. The graph
of a bundle is data of a stranger and has passed an allow-list before; a factory is code the user trusts, which shall
still not download or overwrite anything by surprise. Against hostile native code the hook alone is no boundary.

Imports the standard library only: `isolate` has to run before any other import starts threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any

__all__ = ["Forbidden", "isolate", "limit_cpu_seconds", "limit_memory", "lock_down", "refusals"]

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

#: Landlock's numbers are the same on every architecture.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_VERSION = 1
_LANDLOCK_PATH_BENEATH = 1
_WRITE_FILE = 1 << 1
#: Write, remove and make anything; then what later versions of Landlock added: move between directories, truncate.
_WRITES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_TCP = 0b11  #: bind and connect

#: Enough for the libraries of any model; a leak still ends.
_MAX_OPEN_FILES = 4096

_FORBIDDEN_EVENTS = {
    **dict.fromkeys(
        (
            "socket.connect",
            "socket.bind",
            "socket.sendto",
            "socket.sendmsg",
            "socket.getaddrinfo",
            "socket.gethostbyname",
            "socket.gethostbyaddr",
            "urllib.Request",
        ),
        "reach the network",
    ),
    **dict.fromkeys(
        ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"),
        "start a program",
    ),
    **dict.fromkeys(
        (
            "os.remove",
            "os.rename",
            "os.rmdir",
            "os.mkdir",
            "os.link",
            "os.symlink",
            "os.truncate",
            "os.chmod",
            "os.chown",
            "os.utime",
            "os.setxattr",
            "os.removexattr",
            "shutil.rmtree",
            "shutil.move",
            "tempfile.mkstemp",
            "tempfile.mkdtemp",
            "sqlite3.connect",
        ),
        "change a file",
    ),
}
_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_refused: list[str] = []


class Forbidden(PermissionError):
    """Code in the worker tried what a worker may not do."""


def isolate(*, cuda: bool = False) -> dict[str, str]:
    """Cut this process off, before it has a second thread.

    Args:
        cuda: whether GPUs will be used, which takes write access to device files.

    Returns:
        Who keeps it from the network and from writing: "kernel", or "hook" where the kernel refused.
    """
    kept = {"network": "hook", "files": "hook"}
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, _MAX_OPEN_FILES)
    with contextlib.suppress(OSError):  # when memory runs out, the worker goes and not its parent
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if sys.platform != "linux":
        return kept
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getppid()
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before the signal was set
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _empty_network(libc):
        kept["network"] = "kernel"
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version >= 1 and _landlock(libc, version, cuda):
        kept["files"] = "kernel"
        if version >= 4:
            kept["network"] = "kernel"
    return kept


def _empty_network(libc: Any) -> bool:
    """A network namespace with nothing in it. It takes a user namespace, whose privileges are given away at once."""
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with contextlib.suppress(OSError):  # so that the user keeps a name and a home directory
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    header = struct.pack("<Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    libc.capset(header, bytes(24))
    return True


def _landlock(libc: Any, version: int, cuda: bool) -> bool:
    writes = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("<QQ", writes, _TCP) if version >= 4 else struct.pack("<Q", writes)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        for path in ("/dev", "/proc/self") if cuda else ("/dev/null",):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("<Qi", _WRITE_FILE, place)
            libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _LANDLOCK_PATH_BENEATH, rule, ctypes.c_uint32(0))
            os.close(place)
        return bool(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) == 0)
    finally:
        os.close(ruleset)


def lock_down() -> None:
    """Refuse, from now on, what `isolate` could not keep the kernel from allowing. Cannot be undone."""
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(_refuse)


def refusals() -> list[str]:
    """What was refused since the last time this was asked, as parts of sentences, each once."""
    taken = list(dict.fromkeys(_refused))
    _refused.clear()
    return taken


def limit_memory(extra_bytes: int) -> None:
    """Allow this much more address space than is in use now; without /proc there is no telling, and no limit."""
    with contextlib.suppress(OSError):
        in_use = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, in_use + extra_bytes)


def limit_cpu_seconds(seconds: float) -> None:
    """Let the process be killed once it used this much more processor time: a backstop to the parent's clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime + seconds) + 1, hard=False)


def _lower(kind: int, value: int, *, hard: bool = True) -> None:
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        value = min(value, ceiling)
    resource.setrlimit(kind, (value, value if hard else ceiling))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    what = _FORBIDDEN_EVENTS.get(event)
    if what is None:
        if event != "open":
            return
        path, _, flags = arguments
        if isinstance(path, int) or not (flags or 0) & _WRITING_FLAGS or path in (os.devnull, b"/dev/null"):
            return
        what = "write a file"
    if len(_refused) < 100:
        _refused.append(what)
    raise Forbidden(f"code in the replay worker tried to {what}, which it may not")
