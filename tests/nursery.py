"""Replay workers that need not import torch again: forked from a process that has, as fresh as any other afterwards.

A worker starts with 1.2 seconds of imports, and the tests start hundreds. Here the third worker that asks for the same
variables and the same path is forked from a process that did the imports and nothing else. It is a process of its own
all the same: it is cut off, limited, killed and waited for as ever (`replay.worker.entry.main` runs from its start).
The worker of a path or a variable that is new is started as in production, and so are those of `no_nursery`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

__all__ = ["Nurseries"]

_BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from tests.nursery import serve;serve(int(sys.argv[2]))"
#: Changes with every test, and nothing that is imported looks at it.
_PASSING = ("PYTEST_CURRENT_TEST",)
#: A nursery takes 200 MB; two profiles of numerics are what most tests are about.
_MOST = 2

Key = tuple[str, tuple[tuple[str, str], ...]]


class Nurseries:
    """One nursery for each path and environment that workers ask for again and again."""

    def __init__(self) -> None:
        self._nurseries: dict[Key, _Nursery] = {}
        self._asked: Counter[Key] = Counter()
        self._lock = threading.Lock()
        self._most = _MOST if _waits_for_other_processes() else 0

    def start(self, start_new: Any, path: str, environment: dict[str, str], cuda: bool) -> Any:
        """A worker's process, for `replay.process.start_process`: forked where that is worth it, else a new one."""
        key = path, tuple(sorted((name, value) for name, value in environment.items() if name not in _PASSING))
        with self._lock:
            self._asked[key] += 1
            nursery = self._nurseries.get(key)
            if nursery is None and self._asked[key] == 3 and len(self._nurseries) < self._most and not cuda:
                nursery = self._nurseries[key] = _Nursery(path, environment)
        if nursery is None or cuda or not nursery.can_fork:
            return start_new(path, environment, cuda)
        return nursery.fork(environment)

    def close(self) -> None:
        """End them, and whatever workers are left of them."""
        for nursery in self._nurseries.values():
            nursery.close()


class _Nursery:
    """The tests' end of one."""

    def __init__(self, path: str, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-c", _BOOT, path, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._lock = threading.Lock()
        self.can_fork = self._answer() == 1  #: not with threads, which some variables make imports start

    def fork(self, environment: dict[str, str]) -> _Forked:
        requests, replies, prints = os.pipe(), os.pipe(), os.pipe()
        theirs = requests[0], replies[1], prints[1]
        pid = self._ask({"fork": environment, "cwd": os.getcwd()}, theirs)
        for end in theirs:
            os.close(end)
        return _Forked(self, pid, requests[1], replies[0], prints[0])

    def reap(self, pid: int) -> int:
        return os.waitstatus_to_exitcode(self._ask({"reap": pid}))

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, request: dict[str, Any], fds: tuple[int, ...] = ()) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], fds)
            return self._answer()

    def _answer(self) -> int:
        return int.from_bytes(self._socket.recv(8, socket.MSG_WAITALL), "little")


class _Forked:
    """As much of `subprocess.Popen` as a worker's parent uses."""

    def __init__(self, nursery: _Nursery, pid: int, requests: int, replies: int, prints: int) -> None:
        self.pid, self.returncode = pid, None
        self.stdin, self.stdout, self.stderr = open(requests, "wb"), open(replies, "rb"), open(prints, "rb")
        self._nursery = nursery
        self._ended = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
                self.returncode = self._nursery.reap(self.pid)
                os.close(self._ended)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            select.select([self._ended], [], [], timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("a worker", timeout or 0)
        return code


def serve(fd: int) -> None:
    """Be a nursery: import what a worker imports, then fork one whenever asked, until the other end closes."""
    import replay.worker.serving  # noqa: F401 - for the workers
    from replay.worker.entry import main

    gc.freeze()
    with socket.socket(fileno=fd) as parent:
        parent.sendall((len(os.listdir("/proc/self/task"))).to_bytes(8, "little"))
        while (request := _request(parent)) is not None:
            asked, fds = request
            if "reap" in asked:
                answer = os.waitpid(asked["reap"], 0)[1]
            elif (answer := os.fork()) == 0:
                break
            parent.sendall(answer.to_bytes(8, "little"))
            for each in fds:
                os.close(each)
        else:
            os._exit(0)
    os.setsid()
    for standard, each in enumerate(fds):
        os.dup2(each, standard)
        os.close(each)
    os.environ.clear()
    os.environ.update(asked["fork"])
    os.chdir(asked["cwd"])
    sys.argv[:] = ["-c"]
    with contextlib.suppress(KeyboardInterrupt):
        main()
    os._exit(1)


def _waits_for_other_processes() -> bool:
    """Whether this system tells when a process ends that is not a child of one's own: Linux since 5.3."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _request(parent: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    read, fds, _, _ = socket.recv_fds(parent, 65_536, 3)
    while read and not read.endswith(b"\n"):
        read += parent.recv(65_536)
    return (json.loads(read), fds) if read else None
