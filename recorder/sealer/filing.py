"""`notify="ticket:jira:KEY-1"`: each sealed incident files itself, by `replay ticket` in a process of its own.

A tracker that is slow or away must not keep incidents from being sealed, and the sealer must not grow by an HTTP
client: so a thread of its own starts one child after the other, and tries again what may pass.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recorder.export import python_executable
from recorder.ticket_address import PREFIX

__all__ = ["Filing"]

#: The exit code that may be another one later: the tracker is away, or has had enough.
_TRY_AGAIN = 3
#: About five minutes in all: longer, and the incident is old news.
_PAUSES_SECONDS = (15.0, 60.0, 240.0)
#: A child that takes longer hangs: a bundle of a gigabyte on a slow line takes ten minutes.
_CHILD_SECONDS = 900.0
#: More than this waiting means that the tracker is away for long; the oldest are the ones worth filing.
_MAX_WAITING = 64
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from replay.cli import main; main()"

_Report = Callable[[dict[str, Any]], None]


class Filing:
    """A queue and a thread that begins with the first incident.

    Args:
        notify: "ticket:" and what `--to` takes.
        sink: where claims are taken, so that one defect is filed once an hour across all who use it; None: nowhere.
        command: what is run; by default `replay ticket`.
        pauses_seconds: before each further attempt.
        variables: of the environment, besides our own, by which the child finds the bundles.
    """

    def __init__(
        self,
        notify: str,
        sink: str | None,
        command: Sequence[str] | None = None,
        pauses_seconds: Sequence[float] = _PAUSES_SECONDS,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        packages = str(Path(__file__).resolve().parents[2])
        # -P: the working directory is no place to import from.
        start = [python_executable(), "-P", "-c", _BOOT, packages, "ticket"] if command is None else [*command]
        self._command = [*start, "--to", notify.removeprefix(PREFIX), *(["--once", sink] if sink is not None else [])]
        self._pauses = tuple(pauses_seconds)
        self._variables = dict(variables or {})
        self._queue: queue.Queue[tuple[str, _Report] | None] = queue.Queue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def file(self, location: str, report: _Report) -> None:
        """File a sealed bundle later; a failure is reported as "notify-failed"."""
        if self._queue.qsize() >= _MAX_WAITING:
            report({"event": "notify-failed", "reason": "too many wait for the tracker"})
            return
        self._queue.put((location, report))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="filing", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Try once what still waits, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (order := self._queue.get()) is not None:
            location, report = order
            reason = self._attempts(location)
            if reason:
                with contextlib.suppress(OSError, ValueError):  # the host may be gone, and its status with it
                    report({"event": "notify-failed", "reason": reason})

    def _attempts(self, location: str) -> str:
        """Why it was not filed; "" when it was."""
        for pause in (*self._pauses, None):
            code, reason = self._start(location)
            if code == 0:
                return ""
            if code != _TRY_AGAIN or pause is None or self._stopping.wait(pause):
                break
        return reason

    def _start(self, location: str) -> tuple[int, str]:
        try:
            done = subprocess.run(
                [*self._command, "--", location],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_CHILD_SECONDS,
                env={**os.environ, **self._variables},
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return 1, type(error).__name__
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return done.returncode, (said[-1] if said else f"exit code {done.returncode}")[:300]
