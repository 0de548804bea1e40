"""Windows: which triggers open an incident, which join one, which are suppressed; when a window closes.

Pure bookkeeping without clock or files: the sealer tells it what it saw in the ring.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from recorder.bundle.manifest import Trigger

__all__ = ["Decision", "IncidentBook", "OpenIncident", "WindowPolicy"]

#: Streams remembered at a time; a stream key made of something unique must not grow the sealer.
MAX_STREAMS = 1_024
#: Triggers listed in one incident; more are counted.
MAX_TRIGGERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPolicy:
    """How much around a trigger belongs to its incident."""

    pre_frames: int = 16
    post_frames: int = 4
    post_seconds: float = 5.0
    cooldown_seconds: float = 60.0


@dataclass(slots=True, kw_only=True)
class OpenIncident:
    """An incident whose window is still open. ``frames`` are ids of the stream's frames that belong to it."""

    id: str
    stream: str
    severity: str
    opened_ns: int
    opened_seconds: float  #: monotonic
    triggers: list[Trigger]
    frames: set[int] = field(default_factory=set)
    post_frames_left: int = 0
    more_triggers: int = 0
    closed_by: str = ""


class Decision(StrEnum):
    """What became of a trigger."""

    OPENED = "opened"
    JOINED = "joined"
    COOLDOWN = "cooldown"


class IncidentBook:
    """The open windows and cooldowns of one ring, per stream."""

    def __init__(self, policy: WindowPolicy) -> None:
        self.policy = policy
        self.open: dict[str, OpenIncident] = {}
        self._quiet_until: dict[tuple[str, str], float] = {}

    def fire(
        self, stream: str, trigger: Trigger, incident: str, now_seconds: float
    ) -> tuple[Decision, OpenIncident | None]:
        """Decide on a trigger; returns the incident that was opened or joined.

        Args:
            stream: the stream it concerns.
            trigger: what happened.
            incident: the id a new incident would get.
            now_seconds: monotonic time.
        """
        current = self.open.get(stream)
        if current is not None:
            if len(current.triggers) < MAX_TRIGGERS:
                current.triggers.append(trigger)
            else:
                current.more_triggers += 1
            if trigger.severity == "high":
                current.severity = "high"
            return Decision.JOINED, current
        automatic = trigger.kind not in ("manual", "process_died")
        if automatic and now_seconds < self._quiet_until.get((stream, trigger.kind), 0.0):
            return Decision.COOLDOWN, None
        opened = OpenIncident(
            id=incident,
            stream=stream,
            severity=trigger.severity,
            opened_ns=trigger.time_ns,
            opened_seconds=now_seconds,
            triggers=[trigger],
            post_frames_left=self.policy.post_frames,
        )
        self.open[stream] = opened
        return Decision.OPENED, opened

    def frame_ended(self, stream: str, frame: int) -> None:
        """Note that a frame is complete; one after the trigger's uses up the window."""
        current = self.open.get(stream)
        if current is None or frame not in current.frames:
            return
        about = current.triggers[0].frame
        if about is None or frame > about:
            current.post_frames_left -= 1
        if current.post_frames_left <= 0 and not current.closed_by:
            current.closed_by = "frames"

    def due(self, now_seconds: float) -> list[OpenIncident]:
        """Take out the incidents whose window has closed, by count or by time."""
        for incident in self.open.values():
            if not incident.closed_by and now_seconds - incident.opened_seconds >= self.policy.post_seconds:
                incident.closed_by = "seconds"
        closed = [incident for incident in self.open.values() if incident.closed_by]
        for incident in closed:
            self._close(incident, now_seconds)
        return closed

    def close_all(self, reason: str, now_seconds: float) -> list[OpenIncident]:
        """Take out every incident: the host closed, died or asked for a flush."""
        for incident in self.open.values():
            incident.closed_by = incident.closed_by or reason
        return self.due(now_seconds)

    def _close(self, incident: OpenIncident, now_seconds: float) -> None:
        del self.open[incident.stream]
        until = now_seconds + self.policy.cooldown_seconds
        for trigger in incident.triggers:
            self._quiet_until.pop((incident.stream, trigger.kind), None)
            self._quiet_until[incident.stream, trigger.kind] = until
        while len(self._quiet_until) > MAX_STREAMS:
            del self._quiet_until[next(iter(self._quiet_until))]
