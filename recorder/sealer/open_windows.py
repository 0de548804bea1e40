"""The open windows of one ring: opened by triggers, filled with copies of frames' records, closed as incidents."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from recorder.bundle.manifest import Incident, Trigger, Window
from recorder.counts import Counts
from recorder.incident import IncidentBook, OpenIncident, WindowPolicy
from recorder.limits import Decision, Limits
from recorder.sealer.copies import WindowCopies
from recorder.sealer.seen import SeenFrame, SeenFrames
from recorder.sealer.stages import SpooledStages, StageRecord

__all__ = ["OpenWindows"]

#: How often the host is told what was suppressed.
REPORT_SECONDS = 1.0


class OpenWindows:
    """What `IncidentBook` decides on, carried out: the host is told, records are copied, closed windows handed over.

    Args:
        copies: of the ring's records.
        frames: those that were read so far; the frames before a trigger are taken from them.
        limits: the account of the directory's incidents; None: one of this ring's own.
        report: called with status events for the host.
        losses: gives everything the ring lost so far.
        hand_over: called with each closed incident and the copies of its window, None where there was no room for any.
    """

    def __init__(
        self,
        copies: WindowCopies,
        frames: SeenFrames,
        limits: Limits | None,
        *,
        report: Callable[[dict[str, Any]], None],
        losses: Callable[[], dict[str, int]],
        hand_over: Callable[[Incident, SpooledStages | None], None],
    ) -> None:
        self.book = IncidentBook(WindowPolicy(), limits)
        self._copies = copies
        self._frames = frames
        self._report = report
        self._losses = losses
        self._hand_over = hand_over
        self._opened_at: dict[str, tuple[int, int]] = {}
        self._suppressed = Counts()
        self._reported_at = 0.0

    def fire(
        self,
        stream: str,
        trigger: Trigger,
        name: str,
        now: float,
        about: SeenFrame | None,
        *,
        at: tuple[int, int],
        has_handle: bool = False,
    ) -> None:
        """Open a window for a trigger, let it join the stream's, or suppress it; the host is told which.

        Args:
            stream: the stream it concerns.
            trigger: what happened.
            name: the id a new incident would get.
            now: monotonic time, in seconds.
            about: the frame it names; None: the newest.
            at: sequence and number of the frame record and of the event that are being looked at.
            has_handle: whether the host waits for what comes of this very trigger.
        """
        decision, incident = self.book.fire(stream, trigger, name, now)
        if incident is None:
            if has_handle:
                self._report({"event": "suppressed", "incident": name, "reason": decision.value})
            else:
                self._suppressed.add(decision.value)
        elif decision is Decision.OPENED:
            self._report({"event": "opened", "incident": name})
            self._opened_at[incident.id] = (max(0, at[0] - 1), max(0, at[1] - 1))
            self._begin(incident, about)
        elif has_handle:
            self._report({"event": "joined", "incident": name, "into": incident.id})

    def copy(self, frames: list[SeenFrame], stage: StageRecord) -> None:
        """Copy a record for every open window that one of its frames belongs to."""
        wanted = {
            incident.id
            for frame in frames
            if (incident := self.book.open.get(frame.stream)) is not None and frame.id in incident.frames
        }
        for name in sorted(wanted):
            self._copies.add(name, stage)

    def close_due(self, now: float) -> None:
        """Hand over the windows that are complete, by count or by time."""
        for incident in self.book.due(now):
            self._close(incident, "alive")

    def close_all(self, reason: str, host: str, now: float) -> None:
        """Hand over every window as it is, and tell the host what was suppressed.

        Args:
            reason: what closes them: "close", "death" or "flush".
            host: how the host is: "alive", "closed" or "died".
            now: monotonic time, in seconds.
        """
        for incident in self.book.close_all(reason, now):
            self._close(incident, host)
        self._report_suppressed(now)

    def abandon(self) -> list[Trigger]:
        """Drop the open windows and return their triggers: the whole ring is about to be sealed with them."""
        triggers = []
        for incident in self.book.close_all("death", time.monotonic()):
            triggers += incident.triggers
            self._copies.drop(incident.id)
        return triggers

    def admit_death(self, death: Incident, now: float) -> bool:
        """Decide whether the host's death is an incident of its own, or one more of a crash loop: then count it."""
        [trigger], limits, policy = death.triggers[:1], self.book.limits, self.book.policy
        refused = limits.refuses(death.stream, trigger, death.id, policy, now)
        if refused is None:
            limits.opened(trigger, death.id, policy, now)
            return True
        self._suppressed.add(refused.value)
        return False

    def note_death(self, death: Incident, now: float) -> int:
        """Note a death that is sealed; return how many before it were not."""
        [trigger], limits, policy = death.triggers[:1], self.book.limits, self.book.policy
        recurrences = limits.listed(death.stream, trigger, policy, now)
        limits.closed(death.stream, trigger, policy, now)
        return recurrences

    def settled(self, frame_record: int, event: int) -> tuple[int, int]:
        """Of a frame record and an event, go back to before the first incident that is not settled."""
        opened = list(self._opened_at.values())
        return min((frame_record, *(at[0] for at in opened))), min((event, *(at[1] for at in opened)))

    def settle(self, incident: str) -> None:
        """Note that an incident is in the sink, or cannot be brought there."""
        self._opened_at.pop(incident, None)

    def report_in_time(self, now: float) -> None:
        """Tell the host what was suppressed, every `REPORT_SECONDS`."""
        if now - self._reported_at >= REPORT_SECONDS:
            self._report_suppressed(now)

    def _report_suppressed(self, now: float) -> None:
        """Tell the host; a trigger that fires on every frame must not write a line for every frame."""
        self._reported_at = now
        for reason, number in self._suppressed.snapshot().items():
            self._report({"event": "suppressed", "reason": reason, "count": number})
        self._suppressed = Counts()

    def _begin(self, incident: OpenIncident, about: SeenFrame | None) -> None:
        """Copy what lies before the trigger, oldest first: it is what will be overwritten next."""
        if not self._copies.begin(incident.id):
            return
        frames = {frame.id: frame for frame in self._frames.of_stream(incident.stream)}
        if about is not None:
            frames[about.id] = about
        known = {frame.id: frame.ended for frame in frames.values()}
        seen: set[tuple[int, int]] = set()  # a batch's tensors are one stage of all its frames
        for number in self.book.begin_window(incident, known, about.id if about is not None else None):
            for stage in frames[number].stages:
                if (stage.source.sequence, stage.kind) not in seen:
                    seen.add((stage.source.sequence, stage.kind))
                    self._copies.add(incident.id, stage)

    def _close(self, incident: OpenIncident, host: str) -> None:
        spool, lost = self._copies.take(incident.id)
        lost.update(self._losses())
        if incident.more_triggers:
            lost.add("trigger-not-listed", incident.more_triggers)
        policy = self.book.policy
        closed = Incident(
            id=incident.id,
            stream=incident.stream,
            severity=incident.severity,
            opened_ns=incident.opened_ns,
            window=Window(
                pre_frames=policy.pre_frames,
                post_frames=policy.post_frames,
                post_seconds=policy.post_seconds,
                closed_by=incident.closed_by,
            ),
            triggers=tuple(incident.triggers),
            host=host,
            lost=lost.snapshot(),
            signature=incident.signature,
            recurrences_since_last=incident.recurrences,
        )
        self._hand_over(closed, spool)
