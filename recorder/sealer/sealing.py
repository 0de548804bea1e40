"""Closed windows become bundles in the sink, one after the other, in a thread of the sealer process."""

from __future__ import annotations

import importlib
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.sealer.assemble import assemble
from recorder.sealer.pacing import Pace, cpu_quota
from recorder.sealer.window import ClosedWindow
from recorder.sinks import Sink, SinkUnavailable
from recorder.trust.protection import Protection

__all__ = ["Sealing", "bundle_name"]

#: How long an incident waits for its model's digest and graph, while the host is still working on them.
MODEL_WAIT_SECONDS = 60.0
#: How often incidents that wait are looked at.
LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    window: ClosedWindow
    report: Callable[[dict[str, Any]], None]
    host_is_there: Callable[[], bool]
    once: bool
    done: Callable[[bool], None]
    deadline: float

    def is_ready(self) -> bool:
        """Whether all that the host will tell of its models and environment is known, or the time for it is over."""
        window = self.window
        awaited = window.latched.awaited(window.contexts, window.models)
        return not awaited or not self.host_is_there() or time.monotonic() > self.deadline


class Sealing:
    """A queue and one thread.

    Args:
        sink: where bundles go.
        notify: "package.module:function", called with the location of each sealed bundle.
        scratch: where bundles are put together; None: the temp directory.
        protection: how they are signed and encrypted.
    """

    def __init__(
        self, sink: Sink, notify: str | None, scratch: Path | None = None, protection: Protection | None = None
    ) -> None:
        self._protection = protection or Protection()
        self._sink = sink
        self._notify = notify
        self._scratch = scratch
        self._quota = cpu_quota()
        self._queue: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._pending = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sealing", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """How many windows are waiting or being sealed."""
        return self._pending

    def submit(
        self,
        window: ClosedWindow,
        report: Callable[[dict[str, Any]], None],
        *,
        host_is_there: Callable[[], bool],
        once: bool = False,
        done: Callable[[bool], None] = lambda sealed: None,
    ) -> None:
        """Seal a window later; ``done`` is told whether it worked.

        With ``once`` a bundle of this name that is in the sink already is left alone and counts as sealed: a sealer
        that died may have published it.
        """
        with self._lock:
            self._pending += 1
        deadline = time.monotonic() + MODEL_WAIT_SECONDS
        self._queue.put(_Order(window, report, host_is_there, once, done, deadline))

    def stop(self) -> None:
        """Finish what was submitted, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        waiting: list[_Order] = []  # for their models; they hold nobody else up
        open_for_more = True
        while open_for_more or waiting:
            try:
                order = self._queue.get(timeout=LOOK_SECONDS if waiting else None)
            except queue.Empty:
                pass
            else:
                open_for_more = order is not None
                if order is not None:
                    waiting.append(order)
            ready = [each for each in waiting if each.is_ready()]
            waiting = [each for each in waiting if each not in ready]
            for each in ready:
                self._carry_out(each)

    def _carry_out(self, order: _Order) -> None:
        sealed = False
        try:
            found = self._published(order.window) if order.once else None
            location = found or self._seal(order.window, order.report)
            sealed = True
            order.report({"event": "sealed", "incident": order.window.incident.id, "path": location})
            if found is None:
                self._call_notify(location, order.report)
        except Exception as error:  # noqa: BLE001  # one incident that fails must not end the sealer
            reason = f"{type(error).__name__}: {error}"[:500]
            order.report({"event": "failed", "incident": order.window.incident.id, "reason": reason})
        finally:
            order.window.release()
            order.done(sealed)
            with self._lock:
                self._pending -= 1

    def _published(self, window: ClosedWindow) -> str | None:
        name = self._name(window)
        try:
            return next((listing.location for listing in self._sink.bundles() if listing.name == name), None)
        except SinkUnavailable:
            return None  # publishing will tell

    def _name(self, window: ClosedWindow) -> str:
        return bundle_name(window) + self._protection.suffix()

    def _seal(self, window: ClosedWindow, report: Callable[[dict[str, Any]], None]) -> str:
        # Encoded members go to the temp directory, on disk where there is one: the ring's tmpfs is memory.
        with tempfile.TemporaryDirectory(prefix="flight-recorder-", dir=self._scratch) as scratch:
            path = assemble(
                window.incident,
                window.records,
                window.latched,
                Path(scratch),
                track=window.track,
                pace=Pace(self._quota),
                annotate=lambda text: self._protection.annotations(text, report),
            )
            location = self._sink.publish(self._protection.encrypted(path), self._name(window))
        self._sink.sweep()
        return location

    def _call_notify(self, location: str, report: Callable[[dict[str, Any]], None]) -> None:
        if self._notify is None:
            return
        module, _, name = self._notify.partition(":")
        try:
            getattr(importlib.import_module(module), name)(location)
        except Exception as error:  # noqa: BLE001  # user code
            report({"event": "notify-failed", "reason": f"{type(error).__name__}"})


def bundle_name(window: ClosedWindow) -> str:
    """Name a bundle by when it happened and its random id, so that a listing is in order and nothing collides."""
    incident = window.incident
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(incident.opened_ns / 1e9))
    return f"{stamp}-{incident.id[:12]}.zst"
