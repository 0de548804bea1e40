"""The parent's side of a replay worker: start it, talk to it, and say in one sentence how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from recorder.bundle.codec import from_json
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import Environment
from replay.numerics.settings import WorkerPlan, worker_environment
from replay.protocol import MAX_PAYLOAD_BYTES, ProtocolError, Wire, read_message, write_message
from replay.show.text import inert

__all__ = ["Limits", "ModelRefused", "Worker", "WorkerDied", "WorkerTimedOut"]

_BOOT = "import json,sys;sys.path[:]=json.loads(sys.argv[1]);from replay.worker.entry import main;main({cuda})"

#: Importing torch from a cold disk over a network file system takes minutes; a worker that hangs still ends.
_START_SECONDS = 300.0
#: A factory may build a large model, and gigabytes of weights are read and hashed.
_LOAD_SECONDS = 1800.0
#: How long a worker may take to go after its pipe was closed.
_STOP_SECONDS = 5.0
#: One image's tensor goes through in one go, and the worker's reading thread wakes once and not a dozen times beside
#: the model. The most that Linux gives a process without privileges.
_PIPE_BYTES = 2**20
#: The end of what a worker said before it died, for the sentence that reports it.
_TAIL_LINES = 50


class WorkerDied(Exception):
    """The worker is gone; the message says how."""


class WorkerTimedOut(WorkerDied):
    """The worker took too long and was ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a worker may use."""

    timeout_seconds: float | None = None  #: for one call of a model
    memory_bytes: int | None = None  #: beyond what torch takes once it is loaded; None: this machine's memory


class Worker:
    """One worker process. A context manager: it is gone when the block ends, however it ends."""

    def __init__(
        self, plan: WorkerPlan, *, device: str = "cpu", limits: Limits | None = None, show_prints: bool = True
    ) -> None:
        """Start the process and restore the settings.

        Args:
            plan: environment and flags.
            device: "cpu", or "cuda:n" to move there what was on a GPU.
            limits: time and memory.
            show_prints: whether what the user's code prints is passed on to standard error.

        Raises:
            WorkerDied: it did not come up; the message says why.
        """
        self.limits = limits or Limits()
        self._outstanding = 0
        self._tail: list[str] = []
        path = json.dumps([*([plan.library] if plan.library else []), *(entry for entry in sys.path if entry)])
        self._process = start_process(path, worker_environment(plan, os.environ), device != "cpu")
        assert self._process.stdin and self._process.stdout and self._process.stderr  # noqa: S101 - for the types
        self._requests, self._replies = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._requests, self._replies):
            _widen(pipe)
        self._prints = threading.Thread(
            target=self._pass_on_prints, args=(show_prints,), name="worker prints", daemon=True
        )
        self._prints.start()
        try:
            self.environment = self._settle(
                {
                    "op": "start",
                    "settings": plan.settings,
                    "device": device,
                    "memory_bytes": self._memory_bytes(),
                    "cpu_seconds": self._cpu_seconds(plan),
                }
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def switch(self, plan: WorkerPlan) -> None:
        """Restore the flags of another plan that needs no other process (`WorkerPlan.needs_another_process`)."""
        self.environment = self._settle({"op": "settings", "settings": plan.settings})

    def load(self, request: Mapping[str, Any], graph: bytes = b"") -> list[str]:
        """Load a model (`replay.worker.loading.load_model`); return notes, or raise ModelRefused with the reason."""
        self._send({"op": "load", **request}, [graph])
        reply, _ = self._receive(_LOAD_SECONDS, "loading the model")
        if reply.get("status") != "ok":
            raise ModelRefused(inert(reply.get("reason"), 600))
        return [inert(note, 300) for note in _strings(reply.get("notes"))]

    def send_call(self, request: Mapping[str, Any], parts: Sequence[bytes]) -> None:
        """Hand over a call. One more may be handed over before the answer of this one was taken."""
        self._send({"op": "run", **request}, parts)

    def answer(self, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> Wire:
        """Wait for the answer of the oldest call handed over.

        Raises:
            WorkerTimedOut: it took longer than the limit; the worker is gone.
            WorkerDied: the worker died of it.
        """
        return self._receive(self.limits.timeout_seconds, "running the model", max_payload_bytes)

    def compare(self, request: Mapping[str, Any], parts: Sequence[bytes]) -> dict[str, Any]:
        """Have a registered comparator judge two answers (`replay.worker.comparing`).

        Raises:
            WorkerDied: the worker died of it, or took longer than the limit.
        """
        self._send({"op": "compare", **request}, parts)
        return self._receive(self.limits.timeout_seconds, "comparing")[0]

    def run_pipeline(self, request: Mapping[str, Any], parts: Sequence[bytes]) -> Wire:
        """Run the pipeline that was loaded on one frame, and wait for what it gave.

        Raises:
            WorkerTimedOut: it took longer than the limit; the worker is gone.
            WorkerDied: the worker died of it.
        """
        self._send({"op": "pipeline", **request}, parts)
        return self._receive(self.limits.timeout_seconds, "running the pipeline")

    def close(self) -> None:
        """End the process and everything it started, and wait until it is gone."""
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin  # noqa: S101 - for the types
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._outstanding else _STOP_SECONDS)
        self._kill()
        self._prints.join(_STOP_SECONDS)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _settle(self, request: dict[str, Any]) -> Environment:
        self._send(request, ())
        reply, _ = self._receive(_START_SECONDS, "starting")
        if reply.get("status") != "ok":
            raise WorkerDied(f"the replay worker could not start: {inert(reply.get('reason'), 300)}")
        try:
            return from_json(Environment, reply.get("environment"), "the worker's environment")
        except BundleInvalid as error:
            raise WorkerDied(f"the replay worker answered nonsense: {error}") from error

    def _send(self, header: dict[str, Any], parts: Sequence[bytes]) -> None:
        try:
            write_message(self._requests, header, parts)
        except OSError:
            raise WorkerDied(self._obituary("taking a request")) from None
        self._outstanding += 1

    def _receive(self, seconds: float | None, doing: str, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> Wire:
        deadline = None if seconds is None else time.monotonic() + seconds

        def wait() -> None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._replies], [], [], left)[0]:
                self._kill()
                raise WorkerTimedOut(f"the replay worker was ended after {seconds:g} seconds of {doing}; see --timeout")

        try:
            message = read_message(self._replies, max_payload_bytes=max_payload_bytes, wait=wait)
        except (ProtocolError, OSError) as error:
            self._kill()
            raise WorkerDied(f"the replay worker sent {error}") from error
        if message is None:
            raise WorkerDied(self._obituary(doing))
        self._outstanding -= 1
        return message

    def _obituary(self, doing: str) -> str:
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            return f"the replay worker stopped answering while {doing}"
        self._prints.join(_STOP_SECONDS)
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            hint = {
                "SIGKILL": ", most likely for using too much memory",
                "SIGXCPU": ", for using too much processor time",
            }.get(name, "")
            return f"the replay worker was killed by {name} while {doing}{hint}"
        last = f": {self._tail[-1]}" if self._tail else ""
        return f"the replay worker ended with exit code {code} while {doing}{last}"

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)

    def _pass_on_prints(self, show: bool) -> None:
        assert self._process.stderr  # noqa: S101 - for the types
        with contextlib.suppress(OSError, ValueError):
            for line in iter(lambda: self._process.stderr.readline(4096), b""):  # type: ignore[union-attr]
                text = inert(line.decode("utf-8", "replace"), 400)
                if not text:
                    continue
                self._tail.append(text)
                del self._tail[:-_TAIL_LINES]
                if show:
                    print(text, file=sys.stderr)

    def _memory_bytes(self) -> int | None:
        if self.limits.memory_bytes is not None:
            return self.limits.memory_bytes
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None

    def _cpu_seconds(self, plan: WorkerPlan) -> float | None:
        """All threads together, with room: the clock of the parent decides, this only ends what it lost sight of."""
        if self.limits.timeout_seconds is None:
            return None
        threads = plan.settings.get("torch.num_threads")
        return 60.0 + 2 * self.limits.timeout_seconds * (threads if isinstance(threads, int) else os.cpu_count() or 1)


class ModelRefused(Exception):
    """A model that cannot be had here; the message is one sentence with the remedy."""


def start_process(path: str, environment: dict[str, str], cuda: bool) -> subprocess.Popen[bytes]:
    """Start the interpreter of a worker. ``path`` is its `sys.path` as JSON, ``cuda`` whether it will use a GPU."""
    return subprocess.Popen(
        [sys.executable, "-s", "-P", "-c", _BOOT.format(cuda=cuda), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def _widen(pipe: int) -> None:
    """Let more bytes wait in a pipe, where the system knows how and allows it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _strings(items: object) -> list[str]:
    return [item for item in items if isinstance(item, str)] if isinstance(items, list) else []
