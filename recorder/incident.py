"""Windows: which triggers open an incident, which join one, which are suppressed; when a window closes.

Pure bookkeeping without clock or files: the sealer tells it what it saw in the ring. One book serves one recording
process; every window, cooldown and signature in it is of one stream.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from recorder.bundle.manifest import Trigger

__all__ = ["ASKED_KINDS", "Decision", "IncidentBook", "OpenIncident", "WindowPolicy", "signature_of"]

#: Streams and signatures remembered at a time; a stream key made of something unique must not grow the sealer.
MAX_REMEMBERED = 1_024
#: Triggers listed in one incident; more are counted.
MAX_TRIGGERS = 64
#: Someone who asks wants a bundle, so neither cooldown nor signature holds an asked-for trigger back. Ten times the
#: caps are for them, counted apart: a hundred and twenty an hour is more than anybody looks at, and stops a loop.
ASKED_KINDS = frozenset({"manual", "operator_file", "signal"})
ASKED_FACTOR = 10

#: The largest cap that can be set: so many times are remembered.
MAX_CAP = 10_000

HOUR_SECONDS, DAY_SECONDS = 3_600.0, 86_400.0

#: What tells two incidents of a kind apart, besides the stream: parameters without measured values or free text, so
#: that the same defect has the same signature tomorrow and in another process. A kind not listed is all one.
IDENTITY: dict[str, tuple[str, ...]] = {
    "exception": ("type", "stage", "at"),
    "non_finite": ("part", "model"),
    "low_confidence": ("source", "key"),
    "output_shift": ("what", "key"),
    "when": ("name",),
}

_Key = tuple[str, ...]


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


class Decision(StrEnum):
    """What became of a trigger; all but the first two are reasons of its suppression."""

    OPENED = "opened"
    JOINED = "joined"
    COOLDOWN = "cooldown"
    DUPLICATE = "duplicate"
    HOUR_CAP = "hour-cap"
    DAY_CAP = "day-cap"


@dataclass(frozen=True, slots=True)
class _Limit:
    """At most ``number`` incidents under ``key`` in any ``seconds``."""

    reason: Decision
    key: _Key
    number: int
    seconds: float


class IncidentBook:
    """The open windows of one ring, and what limits new ones.

    A trigger goes through these steps, and the first that applies decides:

    1. The stream's window is open: the trigger *joins* that incident. This costs nothing, so nothing limits it.
    2. *cooldown*: an incident with a trigger of this kind on this stream closed less than ``cooldown_seconds`` ago.
    3. *duplicate*: an incident with this signature on this stream was opened or joined less than ``dedupe_seconds``
       ago.
    4. *hour-cap*, *day-cap*: as many incidents as allowed were opened in the last hour or day, all streams together.
    5. It *opens* an incident.

    All limits are one thing: at most n incidents under a key in so many seconds. Sliding windows, not calendar
    hours, so that no moment lets two hours' worth through. Asked-for triggers (`ASKED_KINDS`) and ``sample`` skip 2
    and 3, and have caps of their own: neither an operator nor a sampling rate uses up what incidents need. A
    suppressed trigger is counted with its signature, and the next incident with that signature carries the number.
    """

    def __init__(self, policy: WindowPolicy) -> None:
        self.policy = policy
        self.open: dict[str, OpenIncident] = {}
        self._opened: dict[_Key, deque[float]] = {}  # per limit: when its last incidents were, as many as it allows
        self._suppressed: dict[_Key, int] = {}  # per stream and signature

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
        for limit in self._limits(stream, trigger):
            past = self._opened.get(limit.key, ())
            if len(past) >= limit.number and now_seconds - past[-limit.number] < limit.seconds:
                key = (stream, signature_of(trigger))
                self._suppressed[key] = self._suppressed.pop(key, 0) + 1
                if len(self._suppressed) > MAX_REMEMBERED:
                    del self._suppressed[next(iter(self._suppressed))]
                return limit.reason, None
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
        for limit in self._caps(trigger):
            self._note(limit, now_seconds)
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
                if _is_limited(trigger):
                    self._note(self._cooldown(incident.stream, trigger), now_seconds)
        return closed

    def close_all(self, reason: str, now_seconds: float) -> list[OpenIncident]:
        """Take out every incident: the host closed, died or asked for a flush."""
        for incident in self.open.values():
            incident.closed_by = incident.closed_by or reason
        return self.due(now_seconds)

    def _take_in(self, incident: OpenIncident, trigger: Trigger, now_seconds: float) -> None:
        incident.recurrences += self._suppressed.pop((incident.stream, signature_of(trigger)), 0)
        if _is_limited(trigger):
            self._note(self._dedupe(incident.stream, trigger), now_seconds)

    def _limits(self, stream: str, trigger: Trigger) -> Iterator[_Limit]:
        if _is_limited(trigger):
            yield self._cooldown(stream, trigger)
            yield self._dedupe(stream, trigger)
        yield from self._caps(trigger)

    def _cooldown(self, stream: str, trigger: Trigger) -> _Limit:
        return _Limit(Decision.COOLDOWN, (stream, "kind", trigger.kind), 1, self.policy.cooldown_seconds)

    def _dedupe(self, stream: str, trigger: Trigger) -> _Limit:
        return _Limit(Decision.DUPLICATE, (stream, "signature", signature_of(trigger)), 1, self.policy.dedupe_seconds)

    def _caps(self, trigger: Trigger) -> tuple[_Limit, _Limit]:
        asked = trigger.kind in ASKED_KINDS
        group = "asked" if asked else "sample" if trigger.kind == "sample" else "detected"
        factor = ASKED_FACTOR if asked else 1
        hour, day = self.policy.max_incidents_per_hour * factor, self.policy.max_incidents_per_day * factor
        return (
            _Limit(Decision.HOUR_CAP, (group, "hour"), hour, HOUR_SECONDS),
            _Limit(Decision.DAY_CAP, (group, "day"), day, DAY_SECONDS),
        )

    def _note(self, limit: _Limit, now_seconds: float) -> None:
        past = self._opened.pop(limit.key, None)
        if past is None or past.maxlen != limit.number:
            past = deque(past or (), maxlen=limit.number)
        past.append(now_seconds)
        self._opened[limit.key] = past
        while len(self._opened) > 2 * MAX_REMEMBERED:
            # The six caps stay (their keys are pairs): forgetting one would lift it.
            del self._opened[next(key for key in self._opened if len(key) == 3)]

    @staticmethod
    def _close_if_complete(incident: OpenIncident) -> None:
        if incident.post_frames_left <= 0 and not incident.unfinished and not incident.closed_by:
            incident.closed_by = "frames"


def signature_of(trigger: Trigger) -> str:
    """Return 16 hex digits that name the defect: the same for the same kind and `IDENTITY`, in every process."""
    told_apart = {name: trigger.parameters.get(name) for name in IDENTITY.get(trigger.kind, ())}
    text = json.dumps([trigger.kind, told_apart], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_limited(trigger: Trigger) -> bool:
    """Whether cooldown and signature hold it back; a sampled frame resembles the last one on purpose."""
    return trigger.kind not in ASKED_KINDS and trigger.kind != "sample"
