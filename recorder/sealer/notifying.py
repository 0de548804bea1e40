"""`notify="package.module:function"`: user code, called in a thread of its own, so that incidents are sealed whatever
it does: it may hang on a network, raise, or end its thread by ``sys.exit``.
"""

from __future__ import annotations

import importlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Notifying"]

#: Who waits for an incident may take it that its notification has been sent, unless that takes longer.
PATIENCE_SECONDS = 5.0
#: How long a sealer that has nothing left to do waits for a function that has not returned.
END_SECONDS = 60.0
#: A function that hangs must not let the sealer grow.
MAX_WAITING = 64

_Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    location: str
    report: _Report
    done: threading.Event = field(default_factory=threading.Event)


class Notifying:
    """A queue, and a thread that begins with the first incident.

    Args:
        notify: "package.module:function".
    """

    def __init__(self, notify: str) -> None:
        self._notify = notify
        self._queue: queue.Queue[_Call | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._is_late = False

    def call(self, location: str, report: _Report) -> None:
        """Call the function with a bundle's location and wait for it a while; a failure is reported as "notify-failed".

        Nobody waits behind a call that hangs: the fault is reported once, as "notify-hangs", and later calls wait for
        it in the queue.
        """
        if self._queue.qsize() >= MAX_WAITING:
            report({"event": "notify-failed", "reason": "too many wait for a call that hangs"})
            return
        call = _Call(location, report)
        self._queue.put(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notifying", daemon=True)
            self._thread.start()
        if self._is_late or call.done.wait(PATIENCE_SECONDS):
            return
        self._is_late = True
        detail = f"{self._notify} has not returned for {PATIENCE_SECONDS:g} seconds; incidents are sealed meanwhile"
        report({"event": "fault", "reason": "notify-hangs", "detail": detail})

    def stop(self) -> None:
        """Wait for what is under way, a minute at most; what has not been called by then is reported."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(END_SECONDS)
        while self._thread.is_alive() and not self._queue.empty():
            call = self._queue.get_nowait()
            if call is not None:
                call.report({"event": "notify-failed", "reason": "a call before it hangs"})

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            module, _, name = self._notify.partition(":")
            try:
                getattr(importlib.import_module(module), name)(call.location)
            except BaseException as error:  # noqa: BLE001  # user code, which may call sys.exit
                call.report({"event": "notify-failed", "reason": f"{type(error).__name__}"})
            self._is_late = False
            call.done.set()
