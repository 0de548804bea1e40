"""Windows: which triggers open an incident, which join one, which are suppressed; when a window closes.

Pure bookkeeping without clock or files: the sealer tells it what it saw in the ring. One book serves one recording
process; every window in it is of one stream. How often there may be one is counted by `recorder.limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from recorder.bundle.manifest import Trigger
from recorder.limits import Decision, Limits, signature_of

__all__ = ["IncidentBook", "OpenIncident", "WindowPolicy"]

#: Triggers listed in one incident; more are counted.
MAX_TRIGGERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPolicy:
    """How much around a trigger belongs to its incident, and how often there may be one."""

    pre_frames: int = 16
    post_frames: int = 4
    post_seconds: float = 5.0
    cooldown_seconds: float = 60.0
    dedupe_seconds: float = 3_600.0
    max_incidents_per_hour: int = 12
    max_incidents_per_day: int = 100


@dataclass(slots=True, kw_only=True)
class OpenIncident:
    """An incident whose window is still open.

    Attributes:
        frames: ids of the stream's frames that belong to it.
        unfinished: those of them that have not ended.
        post_frames_left: frames that may still begin in it.
        recurrences: suppressed triggers of its signatures since they were last in an incident.
    """

    id: str
    stream: str
    severity: str
    opened_ns: int
    opened_seconds: float  #: monotonic
    triggers: list[Trigger]
    post_frames_left: int
    frames: set[int] = field(default_factory=set)
    unfinished: set[int] = field(default_factory=set)
    more_triggers: int = 0
    recurrences: int = 0
    closed_by: str = ""

    @property
    def signature(self) -> str:
        """That of the trigger that opened it."""
        return signature_of(self.triggers[0])


class IncidentBook:
    """The open windows of one ring.

    A trigger goes through these steps, and the first that applies decides:

    1. The stream's window is open: the trigger *joins* that incident. This costs nothing, so nothing limits it.
    2. *cooldown*: an incident with a trigger of this kind on this stream closed less than ``cooldown_seconds`` ago.
    3. *duplicate*: an incident with this signature on this stream was opened or joined less than ``dedupe_seconds``
       ago.
    4. *hour-cap*, *day-cap*: as many incidents as allowed were opened in the last hour or day, all streams together.
    5. *signature-cap*: of these, half (at least two) had this signature.
    6. It *opens* an incident.

    Asked-for triggers (`ASKED_KINDS`) and ``sample`` skip 2, 3 and 5, and have caps of their own: neither an operator
    nor a sampling rate uses up what incidents need. The process's death has caps of its own as well. A suppressed
    trigger is counted with its signature, and the next incident with that signature carries the number.

    Args:
        policy: how much belongs to an incident, and how many there may be.
        limits: the account of all rings of the directory; None: one of the book's own.
    """

    def __init__(self, policy: WindowPolicy, limits: Limits | None = None) -> None:
        self.policy = policy
        self.limits = limits if limits is not None else Limits()
        self.open: dict[str, OpenIncident] = {}

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
                self._take_in(current, trigger, now_seconds)
            else:
                current.more_triggers += 1
            if trigger.severity == "high":
                current.severity = "high"
            return Decision.JOINED, current
        refused = self.limits.refuses(stream, trigger, incident, self.policy, now_seconds)
        if refused is not None:
            return refused, None
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
        self.limits.opened(trigger, incident, self.policy, now_seconds)
        self._take_in(opened, trigger, now_seconds)
        return Decision.OPENED, opened

    def begin_window(self, incident: OpenIncident, known: Mapping[int, bool], about: int | None) -> list[int]:
        """Choose which of the stream's frames read so far belong to an incident that has just been opened.

        Args:
            incident: the incident.
            known: the ids of these frames, and whether each has ended.
            about: the frame the trigger names; None or unknown: the newest.

        Returns:
            The chosen frames, oldest first.
        """
        centre = about if about in known else max(known, default=None)
        if centre is None:
            return []
        policy, ordered = self.policy, sorted(known)
        before = [number for number in ordered if number < centre]
        # A request that was read late finds frames that came after it; they are its window's, not its past.
        after = [number for number in ordered if number > centre][: policy.post_frames]
        chosen = [*(before[-policy.pre_frames :] if policy.pre_frames else ()), centre, *after]
        incident.frames.update(chosen)
        incident.unfinished.update(number for number in chosen if not known[number])
        incident.post_frames_left = policy.post_frames - len(after)
        self._close_if_complete(incident)
        return chosen

    def frame_began(self, stream: str, frame: int) -> None:
        """Take a frame into the stream's window, if there is one with room for it."""
        current = self.open.get(stream)
        if current is not None and not current.closed_by and current.post_frames_left > 0:
            current.post_frames_left -= 1
            current.frames.add(frame)
            current.unfinished.add(frame)

    def frame_ended(self, stream: str, frame: int) -> None:
        """Note that a frame is complete; the window closes with the last one it waits for."""
        current = self.open.get(stream)
        if current is not None and frame in current.frames:
            current.unfinished.discard(frame)
            self._close_if_complete(current)

    def due(self, now_seconds: float) -> list[OpenIncident]:
        """Take out the incidents whose window has closed, by count or by time."""
        for incident in self.open.values():
            if not incident.closed_by and now_seconds - incident.opened_seconds >= self.policy.post_seconds:
                incident.closed_by = "seconds"
        closed = [incident for incident in self.open.values() if incident.closed_by]
        for incident in closed:
            del self.open[incident.stream]
            for trigger in incident.triggers:
                self.limits.closed(incident.stream, trigger, self.policy, now_seconds)
        return closed

    def close_all(self, reason: str, now_seconds: float) -> list[OpenIncident]:
        """Take out every incident: the host closed, died or asked for a flush."""
        for incident in self.open.values():
            incident.closed_by = incident.closed_by or reason
        return self.due(now_seconds)

    def _take_in(self, incident: OpenIncident, trigger: Trigger, now_seconds: float) -> None:
        incident.recurrences += self.limits.listed(incident.stream, trigger, self.policy, now_seconds)

    @staticmethod
    def _close_if_complete(incident: OpenIncident) -> None:
        if incident.post_frames_left <= 0 and not incident.unfinished and not incident.closed_by:
            incident.closed_by = "frames"
