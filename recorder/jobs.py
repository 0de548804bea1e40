"""Work that must not happen on a calling thread: reading weights, describing the environment, waiting for an export."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from recorder.counts import Counts

__all__ = ["Jobs"]


class Jobs:
    """One daemon thread, started with the first job, that does them in order. A job that fails is counted."""

    def __init__(self, errors: Counts) -> None:
        self.stopping = threading.Event()
        self._errors = errors
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._idle = threading.Event()
        self._idle.set()
        self._pending = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Do a job later; returns at once."""
        if self.stopping.is_set():
            return
        with self._lock:
            self._pending += 1
            self._idle.clear()
            self._queue.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flight-recorder-jobs", daemon=True)
                self._thread.start()

    def wait_idle(self, timeout_seconds: float) -> bool:
        """Wait until everything submitted so far is done; say whether it was in time."""
        return self._idle.wait(timeout_seconds)

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Let the job at hand end early and do no more."""
        self.stopping.set()
        self._queue.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_seconds)

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                if not self.stopping.is_set():
                    job()
            except Exception as error:  # noqa: BLE001  # whatever it is, the host must not see it
                self._errors.add(f"job: {type(error).__name__}")
            with self._lock:
                self._pending -= 1
                if self._pending == 0:
                    self._idle.set()
