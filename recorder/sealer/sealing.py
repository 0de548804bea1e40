"""Closed windows become bundles in the sink, one after the other, in a thread of the sealer process."""

from __future__ import annotations

import errno
import math
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from recorder.privacy import PrivacyKey, PrivacyPolicy
from recorder.sealer.assemble import assemble
from recorder.sealer.filing import Filing
from recorder.sealer.memory import give_back
from recorder.sealer.notifying import Notifying
from recorder.sealer.orders import Order
from recorder.sealer.own_process import expendable
from recorder.sealer.pacing import Pace, cpu_quota
from recorder.sealer.redacting import Redacting, import_functions
from recorder.sealer.scratch import renew_scratch
from recorder.sealer.window import ClosedWindow
from recorder.sinks import Sink, SinkUnavailable
from recorder.ticket_address import names_a_ticket
from recorder.trust import TrustError
from recorder.trust.protection import Protection

__all__ = ["Sealing", "bundle_name"]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_FILES = {errno.EMFILE, errno.ENFILE}
#: What may work another time, when somebody has mended the sink, the disk, the key or the machine; what is wrong with a
#: window itself stays so.
_MAY_PASS = (SinkUnavailable, TrustError, OSError, MemoryError)
#: How often incidents that wait are looked at.
LOOK_SECONDS = 0.05
#: After so long it is told that a sink does not return.
SINK_PATIENCE_SECONDS = 60.0


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
        self._queue: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._pending = 0
        self._lock = threading.Lock()
        self._waiting: list[Order] = []  # for their models, or for another try; they hold nobody else up
        self._hurried_at = 0.0
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
        self._queue.put(Order(window, report, host_is_there, once, done))

    def hurry(self) -> None:
        """Try what has been submitted once more at most: somebody waits to hear how it went."""
        self._hurried_at = time.monotonic()

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
        open_for_more = True
        while open_for_more or self._waiting:
            try:
                order = self._queue.get(timeout=LOOK_SECONDS if self._waiting else None)
            except queue.Empty:
                pass
            else:
                open_for_more = order is not None
                if order is None:
                    self._hurried_at = math.inf
                else:
                    self._waiting.append(order)
            ready = [each for each in self._waiting if each.is_ready() or (each.tries and self._is_hurried(each))]
            self._waiting = [each for each in self._waiting if each not in ready]
            for each in ready:
                self._carry_out(each)

    def _is_hurried(self, order: Order) -> bool:
        return order.submitted <= self._hurried_at

    def _is_tried_again(self, order: Order, error: BaseException) -> bool:
        """Whether an incident is kept for another try; the ring of a host that is gone is kept itself."""
        if not isinstance(error, _MAY_PASS) or not order.host_is_there() or self._is_hurried(order):
            return False
        if not order.postpone(sum(each.tries > 0 for each in self._waiting)):
            return False
        self._waiting.append(order)
        return True

    def _carry_out(self, order: Order) -> None:
        settled, over = True, True
        try:
            # An attempt that failed may have published all the same; a bucket is not asked for what the spool refused.
            again = order.tries > 0 and not self._sink.arrives_later
            found = self._published(order.window) if order.once or again else None
            if found is None and not order.tries:  # a sealer that ends counts once
                order.report({"event": "sealing", "incident": order.window.incident.id})
            # While a host lives it must not be the one that is ended for want of memory; a sealer is begun again.
            with expendable() if order.host_is_there() else nullcontext():
                location = found or self._seal(order.window, order.report)
            order.report({"event": "sealed", "incident": order.window.incident.id, "path": location})
            if not self._sink.arrives_later:
                # One that was found was published by a sealer that died before it could say so.
                self._call_notify(location, order.report)
        except BaseException as error:  # noqa: BLE001  # one that fails must not end the sealer, nor must sys.exit
            over = not self._is_tried_again(order, error)
            if over:
                settled = not isinstance(error, _MAY_PASS)
                reason = f"{type(error).__name__}: {self._sentence(error)}"[:500]
                order.report({"event": "failed", "incident": order.window.incident.id, "reason": reason})
        finally:
            if over:
                order.window.release()
                order.done(settled)
            give_back()
            if over:
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
            with self._watched(report):
                location = self._publish(self._protection.encrypted(path), self._name(window))
        try:
            with self._watched(report):
                self._sink.sweep()
        except Exception as error:  # noqa: BLE001  # the incident is there; what could not be deleted is said
            report({"event": "fault", "reason": "sink-not-swept", "detail": str(error)[:500]})
        return location

    @contextmanager
    def _watched(self, report: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """Tell it where a sink does not return: it may be user code, and later incidents wait for it."""
        detail = f"the sink has not returned for {SINK_PATIENCE_SECONDS:g} seconds; no incident is sealed until it does"
        hangs = {"event": "fault", "reason": "sink-hangs", "detail": detail}
        timer = threading.Timer(SINK_PATIENCE_SECONDS, report, (hangs,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

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
