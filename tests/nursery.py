"""Children that need not import torch again: forked from a process that has, as fresh as any other afterwards.

A replay worker starts with 1.2 seconds of imports, the export of a graph with 2.9, and the tests start hundreds. Here
the second child that is asked for with the same variables and path is forked from a process that did the imports and
nothing else. It is a process of its own all the same, cut off, limited, killed and waited for as ever; its own main
function runs from its first line. What has another path or another variable is started as in production, and so is
everything in tests that take the fixture ``no_nursery``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Nurseries"]

_BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from tests.nursery import serve;serve(*sys.argv[2:])"
#: Changes with every test, and nothing that is imported looks at it.
_PASSING = ("PYTEST_CURRENT_TEST",)
#: Each takes 200 MB. Most tests replay under one of two profiles of numerics, and export under one.
_MOST = {"worker": 2, "exporter": 1}
#: The first of its kind may be the only one.
_WORTH_IT = 2

Key = tuple[str, str, tuple[tuple[str, str], ...]]


class Nurseries:
    """One nursery for each kind, path and environment that children are asked for with again and again."""

    def __init__(self) -> None:
        self._nurseries: dict[Key, _Nursery] = {}
        self._asked: Counter[Key] = Counter()
        self._lock = threading.Lock()
        self._possible = _waits_for_other_processes()
        self._usual = frozenset(sys.path)

    def worker(self, start: Callable[..., Any], path: str, environment: dict[str, str], cuda: bool) -> Any:
        """In the place of `replay.process.start_process`, which is ``start``."""
        nursery = None if cuda else self._find("worker", path, environment)
        return start(path, environment, cuda) if nursery is None else nursery.fork(path, environment, prints=True)

    def exporter(self, start: Callable[..., Any], environment: dict[str, str]) -> Any:
        """In the place of `recorder.export.start_process`, which is ``start``."""
        path = json.dumps(sys.path)
        nursery = self._find("exporter", path, environment)
        return start(environment) if nursery is None else nursery.fork(path, environment, prints=False)

    def close(self) -> None:
        """End them, and whatever children are left of them."""
        for nursery in self._nurseries.values():
            nursery.close()

    def _find(self, kind: str, path: str, environment: dict[str, str]) -> _Nursery | None:
        entries = [entry for entry in json.loads(path) if entry in self._usual or _has_what_is_imported(entry)]
        key = kind, json.dumps(entries), tuple(sorted(item for item in environment.items() if item[0] not in _PASSING))
        with self._lock:
            self._asked[key] += 1
            taken = sum(key[0] == kind for key in self._nurseries)
            if self._asked[key] == _WORTH_IT and taken < _MOST[kind] and self._possible:
                self._nurseries[key] = _Nursery(kind, key[1], environment)
            nursery = self._nurseries.get(key)
        return nursery if nursery is not None and nursery.can_fork else None


class _Nursery:
    """The tests' end of one."""

    def __init__(self, kind: str, path: str, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", "-c", _BOOT, path, kind, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._lock = threading.Lock()
        self.can_fork = self._answer() == 1  #: not with threads, which imports start under some variables

    def fork(self, path: str, environment: dict[str, str], *, prints: bool) -> _Forked:
        requests, replies = os.pipe(), os.pipe()
        read, write = os.pipe() if prints else (None, os.open(os.devnull, os.O_WRONLY))
        theirs = requests[0], replies[1], write
        pid = self._ask({"fork": environment, "path": path, "cwd": str(Path.cwd())}, theirs)
        for end in theirs:
            os.close(end)
        return _Forked(self, pid, requests[1], replies[0], read)

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
    """As much of `subprocess.Popen` as the parents of such children use."""

    def __init__(self, nursery: _Nursery, pid: int, requests: int, replies: int, prints: int | None) -> None:
        self.pid, self.returncode = pid, None
        self.stdin, self.stdout = os.fdopen(requests, "wb"), os.fdopen(replies, "rb")
        self.stderr = None if prints is None else os.fdopen(prints, "rb")
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
            raise subprocess.TimeoutExpired("a child of a nursery", timeout or 0)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def serve(kind: str, fd: str) -> None:
    """Be a nursery: do the imports, then fork whenever asked, until the other end closes. Returns in no process."""
    main = {"worker": _ready_worker, "exporter": _ready_exporter}[kind]()
    gc.freeze()
    with socket.socket(fileno=int(fd)) as parent:
        parent.sendall(len(list(Path("/proc/self/task").iterdir())).to_bytes(8, "little"))
        while (asked := _request(parent)) is not None:
            request, fds = asked
            if "reap" in request:
                answer = os.waitpid(request["reap"], 0)[1]
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
    os.environ.update(request["fork"])
    os.chdir(request["cwd"])
    sys.path[:] = json.loads(request["path"])
    sys.argv[:] = ["-c"]
    main()
    os._exit(1)


def _ready_worker() -> Callable[[], None]:
    importlib.import_module("replay.worker.serving")
    entry: Any = importlib.import_module("replay.worker.entry")
    main: Callable[[], None] = entry.main
    return main


def _ready_exporter() -> Callable[[], None]:
    import torch

    child: Any = importlib.import_module("recorder.export_child")
    torch.set_num_threads(1)
    torch.export.export(torch.nn.Identity(), (torch.zeros(1),), strict=False)  # imports what only exporting needs

    def main() -> None:
        sys.path[:] = json.loads(sys.stdin.buffer.readline())  # the same once more
        child.main()

    return main


def _has_what_is_imported(directory: str) -> bool:
    """Whether a directory of a test's own could have been where a nursery imported something from."""
    with contextlib.suppress(OSError):
        return not {each.name.partition(".")[0] for each in Path(directory).iterdir()}.isdisjoint(sys.modules)
    return False


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
