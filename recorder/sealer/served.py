"""One ring that the sealer serves: followed while its host lives, sealed when it dies, taken away when that is done."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.limits import Limits
from recorder.ring import RingReader, RingState, is_alive
from recorder.sealer.exit_status import ending_of, exit_status, is_orderly
from recorder.sealer.follower import Follower
from recorder.sealer.leftover import salvage
from recorder.sealer.progress import Progress, Told, progress_path
from recorder.sealer.sealing import Sealing
from recorder.sealer.tracking import Tracking
from recorder.sealer.window import ClosedWindow, incident_name
from recorder.settings import SealerSettings
from recorder.sinks import Sink
from recorder.status import StatusWriter, status_path
from recorder.track import track_path

if TYPE_CHECKING:
    from recorder.sealer.references import References

__all__ = ["Served", "readable"]

#: How often a host is told what its history costs: seldom enough that its other news stay in the file.
TELL_SECONDS = 10.0
#: An incident that ends whoever seals it, as by its size, must not keep the others from being sealed.
MAX_TRIES = 3


class Served:
    """One ring and what becomes of it.

    Args:
        path: of the ring.
        settings: of the running configuration.
        sink: where bundles go.
        sealing: what makes them.
        limits: the account of the directory's incidents.
        references: what streams are compared with; None: nothing.
        watch: told of every event that the host is told of.

    Raises:
        RingError: it is no ring.
        OSError: it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        settings: SealerSettings,
        sink: Sink,
        sealing: Sealing,
        limits: Limits,
        references: References | None,
        watch: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        self.path = path
        self.reader = RingReader(path)
        self.status = StatusWriter(status_path(path))
        self._watch_event = watch
        #: Whether an incident of a host that is gone could not be brought to the sink, and may be another time.
        self.is_unsettled = False
        self._sink = sink
        self._sealing = sealing
        self._gone = False
        self._flushes: list[tuple[int, int]] = []
        self._sealed = 0
        self._submitted = 0
        self._told_at = time.monotonic()
        self._told_rows = 0
        self._progress = Progress(path)
        self._told = Told.about(path)
        self._resumed = self._progress.found != (0, 0)
        self._tracking = Tracking.of_ring(self.reader, settings)
        self.follower = Follower(
            self.reader,
            path.parent,
            settings.spool_bytes,
            self._report,
            self._submit,
            resume=self._progress.found,
            tracking=self._tracking,
            limits=limits,
            references=references,
        )
        if settings.track_bytes and self._tracking is None:
            self.follower.lost.add("track-unavailable")
        self.pidfd = self._watch()

    def poll(self, now: float) -> bool:
        """Follow the ring; say whether there was anything new."""
        if self._gone:
            return False
        busy = self.follower.poll(now)
        header = self.reader.refresh()
        if header.state in (RingState.CLOSED, RingState.TERMINATED):
            self._gone = True
            self.follower.close("close", "closed", now)
        elif self._is_dead():
            if self.reader.refresh().state is not RingState.LIVE:
                return True  # it closed in order just after the first look
            self._gone = True
            status = exit_status(self.pidfd, self.reader.header.identity.pid) if self.pidfd is not None else None
            if is_orderly(status):
                self.follower.close("close", "closed", now)
            else:
                self._seal_death(now, status)
        if now - self._told_at >= TELL_SECONDS:
            self._tell_cost(now)
        self._answer_flushes(now)
        self._progress.store(self.follower.settled)
        return busy

    def ask(self, kind: str, reason: str, now: float) -> None:
        """Seal an incident of every stream, unless the host is gone."""
        if not self._gone:
            self.follower.ask(kind, reason, now)

    @property
    def is_gone(self) -> bool:
        """Whether the host has ended."""
        return self._gone

    @property
    def is_over(self) -> bool:
        """Whether the host is gone and everything of it is sealed."""
        return self._gone and self._sealed == self._submitted

    def remove(self) -> None:
        """Take the ring away; it has been sealed. What a new process has put in its place stays."""
        is_replaced = self.reader.is_replaced
        self.close()
        if is_replaced:
            return
        # The ring first: without it the rest is of no use to anyone, with it the rest keeps it from being sealed again.
        for path in (self.path, status_path(self.path), progress_path(self.path), track_path(self.path)):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files."""
        self.reader.close()
        self._progress.close()
        if self._tracking is not None:
            self._tracking.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None

    def _seal_death(self, now: float, status: int | None) -> None:
        self.follower.poll(now, skip_pending=True)
        if not self.follower.has_frames:
            self.follower.windows.abandon()
            return
        identity, ending = self.reader.header.identity, ending_of(status)
        reason = f"the recording process {identity.pid} died: {ending}"
        window = salvage(self.reader, incident_name(self.reader), reason, ending=ending)
        if not self.follower.windows.admit_death(window.incident, now):
            # One more of a crash loop. What was triggered before it is sealed all the same.
            self.follower.close("death", "died", now)
            return
        earlier = self.follower.windows.abandon()
        recurrences = self.follower.windows.note_death(window.incident, now)
        window.incident = dataclasses.replace(
            window.incident,
            triggers=(*window.incident.triggers, *earlier),
            recurrences_since_last=recurrences,
        )
        self._submit(window, once=True)

    def _submit(self, window: ClosedWindow, once: bool = False) -> None:
        incident = window.incident.id
        if incident in self._told.sealed:  # by the sealer before us, which died before it could note that
            window.release()
            self.follower.windows.settle(incident)
            return
        self._submitted += 1

        def done(settled: bool) -> None:
            if settled or not self._gone:
                self.follower.windows.settle(incident)
            else:
                self.is_unsettled = True
            self._sealed += 1

        if (tries := self._told.begun.get(incident, 0)) >= MAX_TRIES:
            reason = f"SealerEnded: {tries} sealers ended in the middle of it; `replay recover` may have more luck"
            self._tell({"event": "failed", "incident": incident, "reason": reason, "tries": tries})
            window.release()
            done(False)
            return

        self._sealing.submit(
            window,
            self._tell,
            host_is_there=lambda: not self._gone,
            once=once or self._resumed,
            done=done,
        )

    def _tell(self, event: dict[str, Any]) -> None:
        self.status.append(event)
        self._watch_event(event)

    def _report(self, event: dict[str, Any]) -> None:
        if event["event"] == "flush-requested":
            self._flushes.append((event["flush"], self._submitted))
            self._sealing.hurry()
        else:
            self._tell(event)

    def _tell_cost(self, now: float) -> None:
        """Tell the host what its history costs, when there is news."""
        self._told_at = now
        if self._tracking is not None and self._tracking.frames != self._told_rows:
            self._told_rows = self._tracking.frames
            cost = round(self._tracking.measuring.spent_seconds, 6)
            self._tell({"event": "track", "rows": self._told_rows, "seconds": cost})

    def _answer_flushes(self, now: float) -> None:
        if not self._flushes or self._sealed < self._flushes[0][1] or self._sink.waiting():
            return
        self._tell_cost(now)
        while self._flushes and self._sealed >= self._flushes[0][1]:
            self._tell({"event": "flushed", "flush": self._flushes.pop(0)[0]})

    def _watch(self) -> int | None:
        header = self.reader.header
        with contextlib.suppress(OSError, AttributeError):
            descriptor = os.pidfd_open(header.identity.pid)
            if is_alive(header):
                return descriptor
            os.close(descriptor)
        return None

    def _is_dead(self) -> bool:
        if self.pidfd is not None:
            return bool(readable([self.pidfd], 0.0))
        return is_alive(self.reader.header) is False


def readable(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Return which of the descriptors can be read, or have ended, after at most so many seconds; any number of them."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(seconds * 1_000)}
