"""Export of a model's graph in a child process: the host's half and the child's.

Exporting inside a serving process changes its answers, so the host only pickles a skeleton (no tensor bytes), and a
child at the lowest priority does the rest. The child has no way back but one reply through a pipe.

On the child's stdin: one JSON line with the host's ``sys.path``, one JSON line with the request, then the skeleton's
bytes. On its stdout: one JSON line ``{"size": n}`` or ``{"reason": sentence}``, then n bytes of the graph document.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["GraphExporter", "GraphResult", "export_graph"]

#: A graph of a thousand layers is below 1 MB; more is a bug or another's reply.
MAX_GRAPH_BYTES = 64 * 2**20

#: The child sets its own alarm a little later than the host's, for a host that died meanwhile.
_ALARM_GRACE_SECONDS = 10

#: Run with ``-c``: the host's import path must be set before anything of ours is imported.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from recorder.export_child import main; main()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphResult:
    """An exported graph, or one sentence why there is none."""

    graph: bytes | None
    reason: str | None
    seconds: float


class GraphExporter:
    """Runs exports, one child each; `close` ends those under way and refuses later ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def export(
        self,
        skeleton: bytes,
        args_json: dict[str, Any],
        kwargs_json: dict[str, Any],
        *,
        timeout_seconds: float,
        settings: dict[str, Any] | None = None,
        state: tuple[Sequence[str], dict[str, Any]] | None = None,
        any_size: bool = False,
    ) -> GraphResult:
        """Export in a child and wait for it: for a background thread. Never raises, never leaves a child behind.

        Args:
            skeleton: from `recorder.models.skeletons`.
            args_json: one call's positional arguments in tagged JSON form (recorder.bundle.values).
            kwargs_json: its keyword arguments, likewise.
            timeout_seconds: after which the child is killed.
            settings: the call's settings (manifest.CallSettings as JSON): ``grad_enabled`` and ``autocast`` count.
            state: patterns of the tensors that are state, and the state before the call in tagged form.
            any_size: let the graph serve inputs of other sizes too, where the model allows it.
        """
        started = time.monotonic()
        request = {
            "args": args_json,
            "kwargs": kwargs_json,
            "settings": settings or {},
            "state": state,
            "any_size": any_size,
            "size": len(skeleton),
            "alarm_seconds": int(timeout_seconds) + _ALARM_GRACE_SECONDS,
        }
        try:
            head = json.dumps(sys.path) + "\n" + json.dumps(request) + "\n"
            graph, reason = self._converse(head.encode() + skeleton, timeout_seconds)
        except (OSError, ValueError, TypeError) as error:
            graph, reason = None, f"The export process could not be run ({type(error).__name__}: {error})."
        return GraphResult(graph=graph, reason=reason, seconds=time.monotonic() - started)

    def close(self) -> None:
        """Kill the children under way; their exports end with a reason."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.kill()

    def _converse(self, message: bytes, timeout_seconds: float) -> tuple[bytes | None, str | None]:
        process = self._start()
        if process is None:
            return None, "The recorder was closed before the graph was exported."
        timed_out = threading.Event()

        def expire() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(timeout_seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101  both are pipes
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(message)
                process.stdin.flush()  # left open: its end tells the child that the host died
            answer = _reply(process.stdout.readline(4096), process.stdout)
        finally:
            timer.cancel()
            self._end(process)
        if answer is not None:
            return answer
        if timed_out.is_set():
            return None, f"The export did not end within {timeout_seconds:g} seconds."
        if self._closed:
            return None, "The recorder was closed before the graph was exported."
        return None, f"The export process ended with status {process.returncode} and no answer."

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._closed:
                return None
            process = start_process(_environment())
            self._running.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        process.wait()
        with self._lock:
            self._running.discard(process)


_exporter = GraphExporter()
atexit.register(_exporter.close)


def export_graph(
    skeleton: bytes,
    args_json: dict[str, Any],
    kwargs_json: dict[str, Any],
    *,
    timeout_seconds: float,
    settings: dict[str, Any] | None = None,
    state: tuple[Sequence[str], dict[str, Any]] | None = None,
    any_size: bool = False,
) -> GraphResult:
    """Export with an exporter that the whole process shares; see `GraphExporter.export`."""
    return _exporter.export(
        skeleton,
        args_json,
        kwargs_json,
        timeout_seconds=timeout_seconds,
        settings=settings,
        state=state,
        any_size=any_size,
    )


def start_process(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the interpreter of a child."""
    return subprocess.Popen(
        [python_executable(), "-c", _BOOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )


def python_executable() -> str:
    """The Python to start a child with; inside an embedding server ``sys.executable`` is the server itself."""
    executable = Path(sys.executable or "")
    if executable.name.startswith(("python", "pypy")):
        return str(executable)
    return str(Path(sys.prefix) / "bin" / "python3")


def _environment() -> dict[str, str]:
    """The host's variables, one thread, no GPU, and every recorder in the user's modules switched off."""
    forced = {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "FLIGHT_RECORDER_DISABLED": "1",
    }
    return {**os.environ, **forced}


def _reply(head: bytes, rest: Any) -> tuple[bytes | None, str | None] | None:
    """The child's answer, None when there was none."""
    try:
        content = json.loads(head)
    except ValueError:
        return None
    if "reason" in content:
        return None, str(content["reason"])
    size_bytes = int(content["size"])
    if not 0 < size_bytes <= MAX_GRAPH_BYTES:
        return None, f"The exported graph has {size_bytes} bytes, more than a graph may have."
    graph = rest.read(size_bytes)
    return (graph, None) if len(graph) == size_bytes else None
