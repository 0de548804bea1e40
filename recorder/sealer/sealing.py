"""Closed windows become bundles in the sink, one after the other, in a thread of the sealer process."""

from __future__ import annotations

import errno
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.privacy import PrivacyKey, PrivacyPolicy
from recorder.sealer.assemble import assemble
from recorder.sealer.filing import Filing
from recorder.sealer.memory import give_back
from recorder.sealer.notifying import Notifying
from recorder.sealer.pacing import Pace, cpu_quota
from recorder.sealer.redacting import Redacting, import_functions
from recorder.sealer.scratch import renew_scratch
from recorder.sealer.window import ClosedWindow
from recorder.sinks import Sink, SinkUnavailable
from recorder.ticket_address import names_a_ticket
from recorder.trust import TrustError
from recorder.trust.protection import Protection

__all__ = ["Sealing", "bundle_name"]

#: How long an incident waits for its model's digest and graph, while the host is still working on them.
MODEL_WAIT_SECONDS = 60.0
#: How long it waits for its models' weights to be compared once more: a host does so every second.
COMPARE_WAIT_SECONDS = 2.5
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_FILES = {errno.EMFILE, errno.ENFILE}
#: What may work another time, when somebody has mended the sink, the disk, the key or the machine; what is wrong with a
#: window itself stays so.
_MAY_PASS = (SinkUnavailable, TrustError, OSError, MemoryError)
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
        if not self.host_is_there():
            return True
        now = time.monotonic()
        if window.unverified_calls and now < self.deadline - MODEL_WAIT_SECONDS + COMPARE_WAIT_SECONDS:
            return False
        return not window.latched.awaited(window.contexts, window.models) or now > self.deadline


class Sealing:
    """A queue and one thread.

    Args:
        sink: where bundles go.
        notify: "package.module:function", called with the location of each sealed bundle, or "ticket:" and an address
            (see `recorder.sealer.filing`).
        scratch: where bundles are put together; None: the temp directory.
        privacy: the running configuration's policy, whose redacting functions may be imported. What is applied to a
            window is the policy in its ring.
        privacy_key: for pseudonyms and digests.
        protection: how bundles are signed and encrypted.
        max_bundle_bytes: see `recorder.sealer.thinning`; None: no bound.
        profile: by which causes are named; None: they are not.
        tell: reports what concerns no single ring, such as a bundle's arrival.
        sink_spec: what names the sink, where another process can open it by that alone.
    """

    def __init__(
        self,
        sink: Sink,
        notify: str | None,
        scratch: Path | None = None,
        privacy: PrivacyPolicy | None = None,
        privacy_key: PrivacyKey | None = None,
        protection: Protection | None = None,
        *,
        max_bundle_bytes: int | None = None,
        profile: Path | None = None,
        tell: Callable[[dict[str, Any]], None] = lambda event: None,
        sink_spec: str | None = None,
    ) -> None:
        self._protection = protection or Protection()
        self._functions = import_functions(privacy)
        self._privacy_key = privacy_key
        self._sink = sink
        self._filing: Filing | None = None
        self._notifying: Notifying | None = None
        if notify is not None and names_a_ticket(notify):
            self._filing = Filing(notify, sink_spec, variables=sink.variables())
        elif notify is not None:
            self._notifying = Notifying(notify)
        self._scratch = scratch
        self._max_bundle_bytes = max_bundle_bytes
        self._profile = profile
        self._quota = cpu_quota()
        self._queue: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._pending = 0
        self._lock = threading.Lock()
        self._tell = tell
        sink.start(arrived=self._arrived, fault=self._fault)
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
        done: Callable[[bool], None] = lambda settled: None,
    ) -> None:
        """Seal a window later; ``done`` is told whether that is settled: it may work another time if the sink or the
        disk was what failed.

        With ``once`` a bundle of this name that is in the sink already is left alone and counts as sealed: a sealer
        that died may have published it.
        """
        with self._lock:
            self._pending += 1
        deadline = time.monotonic() + MODEL_WAIT_SECONDS
        self._queue.put(_Order(window, report, host_is_there, once, done, deadline))

    def stop(self) -> None:
        """Finish what was submitted, and let go of the sink."""
        self._queue.put(None)
        self._thread.join()
        self._sink.close()

    def finish_notifying(self) -> None:
        """Wait, after `stop`, for a tracker or a function of the user's, which may take its time."""
        if self._filing is not None:
            self._filing.stop()
        if self._notifying is not None:
            self._notifying.stop()

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
        settled = True
        try:
            found = self._published(order.window) if order.once else None
            if found is None:
                order.report({"event": "sealing", "incident": order.window.incident.id})
            location = found or self._seal(order.window, order.report)
            order.report({"event": "sealed", "incident": order.window.incident.id, "path": location})
            if not self._sink.arrives_later:
                # One that was found was published by a sealer that died before it could say so.
                self._call_notify(location, order.report)
        except BaseException as error:  # noqa: BLE001  # one that fails must not end the sealer, nor must sys.exit
            settled = not isinstance(error, _MAY_PASS)
            reason = f"{type(error).__name__}: {self._sentence(error)}"[:500]
            order.report({"event": "failed", "incident": order.window.incident.id, "reason": reason})
        finally:
            order.window.release()
            order.done(settled)
            give_back()
            with self._lock:
                self._pending -= 1

    def _sentence(self, error: BaseException) -> str:
        """Say which disk is full or gone; a sink says it by itself."""
        if not isinstance(error, OSError):
            return str(error)
        where = self._scratch or tempfile.gettempdir()
        remedy = "free some room, or set TMPDIR" if error.errno in _NO_ROOM else "mend that, or set TMPDIR"
        if error.errno in _NO_FILES:
            remedy = "allow more open files (ulimit -n)"
        return f"A bundle could not be put together in {where}: {error.strerror or error}; {remedy}."

    def _published(self, window: ClosedWindow) -> str | None:
        try:
            return self._sink.find(self._name(window))
        except SinkUnavailable:
            return None  # publishing will tell

    def _name(self, window: ClosedWindow) -> str:
        return bundle_name(window) + self._protection.suffix()

    def _seal(self, window: ClosedWindow, report: Callable[[dict[str, Any]], None]) -> str:
        # Encoded members go to the temp directory, on disk where there is one: the ring's tmpfs is memory.
        renew_scratch(self._scratch)
        with tempfile.TemporaryDirectory(prefix="flight-recorder-", dir=self._scratch) as scratch:
            path = assemble(
                window.incident,
                window.records,
                window.latched,
                Path(scratch),
                privacy=Redacting(window.latched.privacy, self._privacy_key, self._functions),
                track=window.track,
                unverified=window.unverified_calls,
                max_bundle_bytes=self._max_bundle_bytes,
                profile=self._profile,
                pace=Pace(self._quota),
                annotate=lambda text: self._protection.annotations(text, report),
            )
            location = self._publish(self._protection.encrypted(path), self._name(window))
        try:
            self._sink.sweep()
        except Exception as error:  # noqa: BLE001  # the incident is there; what could not be deleted is said
            report({"event": "fault", "reason": "sink-not-swept", "detail": str(error)[:500]})
        return location

    def _publish(self, path: Path, name: str) -> str:
        """Publish; a sink may be user code, which raises what it likes."""
        try:
            return self._sink.publish(path, name)
        except SinkUnavailable:
            raise
        except BaseException as error:
            raise SinkUnavailable(f"The sink raised {type(error).__name__}: {error}") from error

    def _arrived(self, location: str) -> None:
        self._tell({"event": "arrived", "path": location})
        self._call_notify(location, self._tell)

    def _fault(self, reason: str, sentence: str) -> None:
        self._tell({"event": "fault", "reason": reason, "detail": sentence[:500]})

    def _call_notify(self, location: str, report: Callable[[dict[str, Any]], None]) -> None:
        if self._filing is not None:
            self._filing.file(location, report)
        if self._notifying is not None:
            self._notifying.call(location, report)


def bundle_name(window: ClosedWindow) -> str:
    """Name a bundle by when it happened, to the microsecond, and its id: a listing is in order, nothing collides."""
    incident = window.incident
    # Any number may stand in a ring: the years 1970 to 2242.
    seconds, nanoseconds = divmod(min(max(0, incident.opened_ns), 2**63 - 1), 10**9)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
    return f"{stamp}.{nanoseconds // 1_000:06d}Z-{incident.id[:12]}.zst"
