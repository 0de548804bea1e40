"""What became of incidents: the host's view of what the sealer reports."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from recorder.counts import Counts
from recorder.status import StatusReader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Incident", "Outcomes"]

#: How often somebody who waits looks. Only tests, scripts and `close` wait.
POLL_SECONDS = 0.02
#: Outcomes remembered; a service that never asks must not grow.
MAX_REMEMBERED = 1_024


class Outcomes:
    """Follows the sealer's status file."""

    def __init__(self, reader: StatusReader) -> None:
        self._reader = reader
        self._lock = threading.RLock()
        self._joined: dict[str, str] = {}
        self._paths: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        self._flushed = 0
        self.open: set[str] = set()
        self.sealed = 0
        self.suppressed = Counts()
        self.failures = Counts()
        self.faults = Counts()  #: of incidents that were sealed all the same
        self.references = 0
        self.track_rows, self.track_seconds = 0, 0.0

    def poll(self) -> None:
        """Take in what the sealer has said since the last time."""
        with self._lock:
            for event in self._reader.poll():
                incident = str(event.get("incident", ""))
                match event.get("event"):
                    case "opened":
                        self.open.add(incident)
                    case "joined":
                        self._remember(self._joined, incident, str(event.get("into", "")))
                    case "suppressed":
                        self.suppressed.add(str(event.get("reason", "other")), int(event.get("count", 1)))
                        self._remember(self._ended, incident, "suppressed")
                    case "sealed":
                        self.open.discard(incident)
                        self.sealed += 1
                        self._remember(self._paths, incident, str(event.get("path", "")))
                        self._remember(self._ended, incident, "sealed")
                    case "failed":
                        self.open.discard(incident)
                        self.failures.add(str(event.get("reason", "other")))
                        self._remember(self._ended, incident, "failed")
                    case "fault":
                        self.faults.add(str(event.get("reason", "other")))
                    case "notify-failed":
                        self.faults.add("notify-failed")
                    case "track":
                        self.track_rows = int(event.get("rows", 0))
                        self.track_seconds = float(event.get("seconds", 0.0))
                    case "learnt":
                        self.references = int(event.get("streams", 0))
                    case "flushed":
                        self._flushed = max(self._flushed, int(event.get("flush", 0)))

    def continue_counts(self, former: Outcomes) -> None:
        """Take over what was told of a former ring of this process."""
        former.poll()
        with self._lock:
            self.sealed += former.sealed
            for mine, theirs in (
                (self.suppressed, former.suppressed),
                (self.failures, former.failures),
                (self.faults, former.faults),
            ):
                mine.update(theirs.snapshot())

    def state_of(self, incident: str) -> str:
        """Return "pending", "open", "sealed", "suppressed" or "failed"."""
        self.poll()
        with self._lock:
            target = self._joined.get(incident, incident)
            return self._ended.get(target, "open" if target in self.open else "pending")

    def path_of(self, incident: str) -> str | None:
        """Return where an incident was sealed."""
        with self._lock:
            return self._paths.get(self._joined.get(incident, incident))

    def flushed(self) -> int:
        """Return the number of the last flush request that the sealer has carried out."""
        self.poll()
        return self._flushed

    def wait(self, done: Callable[[], bool], timeout_seconds: float) -> bool:
        """Poll until ``done()`` or the time is over; say which."""
        deadline = time.monotonic() + timeout_seconds
        while not done():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    @staticmethod
    def _remember(memory: dict[str, str], key: str, value: str) -> None:
        if key:
            memory[key] = value
            if len(memory) > MAX_REMEMBERED:
                del memory[next(iter(memory))]


class Incident:
    """The handle of a manual trigger. Production never waits for it; tests and scripts may.

    Attributes:
        id: 32 hex digits. When other triggers share the window, the sealed incident may carry another's id.
    """

    def __init__(self, incident: str, outcomes: Outcomes | None) -> None:
        self.id = incident
        self._outcomes = outcomes

    @property
    def state(self) -> str:
        """Return "pending", "open", "sealed", "suppressed", "failed", or "disabled"."""
        return self._outcomes.state_of(self.id) if self._outcomes is not None else "disabled"

    @property
    def path(self) -> str | None:
        """Where it was sealed: a path or an address; None until then."""
        if self._outcomes is None:
            return None
        self._outcomes.poll()
        return self._outcomes.path_of(self.id)

    def wait(self, timeout: float = 30.0) -> Incident:
        """Wait until it is sealed, suppressed or failed, at most ``timeout`` seconds; never raises."""
        if self._outcomes is not None:
            self._outcomes.wait(lambda: self.state not in ("pending", "open"), timeout)
        return self

    def __repr__(self) -> str:
        return f"Incident({self.id!r}, {self.state})"
