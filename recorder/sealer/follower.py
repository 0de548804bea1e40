"""Follows one ring as it fills: puts frames together, evaluates triggers, has windows copied out in time."""

from __future__ import annotations

import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bundle.manifest import Incident, Trigger
from recorder.counts import Counts
from recorder.limits import Limits
from recorder.privacy import Level
from recorder.records import Kind, RecordInvalid
from recorder.ring import CONTEXTS, EVENTS, FrameScan, RingReader, Scan
from recorder.sealer.copies import WindowCopies
from recorder.sealer.latched import Latched
from recorder.sealer.measuring import Measuring
from recorder.sealer.open_windows import OpenWindows
from recorder.sealer.redacting import stream_name
from recorder.sealer.rules import Rules
from recorder.sealer.seen import SeenFrame, SeenFrames
from recorder.sealer.stages import MALFORMED, SpooledStages, StageRecord, checked, read_stages
from recorder.sealer.tracking import Tracking
from recorder.sealer.window import ClosedWindow, incident_name
from recorder.track import Row

if TYPE_CHECKING:
    from recorder.sealer.references import References

__all__ = ["Follower"]

#: A record that is reserved and not committed for so long belongs to a thread that hangs or died: go past it.
PENDING_SECONDS = 2.0
#: From outside the process: it cannot say which stream looks wrong.
EVERYWHERE_KINDS = frozenset({"operator_file", "signal"})
#: What names an incident's files; `recorder.session` gives such ids.
_INCIDENT = re.compile(r"[0-9a-f]{32}")


class Follower:
    """The sealer's view of one ring.

    Args:
        reader: the ring.
        directory: where windows are spooled.
        spool_bytes: how much all windows of this ring may take while they are open or being sealed.
        report: called with status events for the host.
        seal: called with each closed window.
        resume: the marks a former sealer of this ring left (`settled`): up to them no trigger opens an incident again.
        tracking: notes every frame that ends; None: there is no history.
        limits: the account of the directory's incidents; None: one of this ring's own.
        references: what streams are compared with; None: nothing.
    """

    def __init__(
        self,
        reader: RingReader,
        directory: Path,
        spool_bytes: int,
        report: Callable[[dict[str, Any]], None],
        seal: Callable[[ClosedWindow], None],
        *,
        resume: tuple[int, int] = (0, 0),
        tracking: Tracking | None = None,
        limits: Limits | None = None,
        references: References | None = None,
    ) -> None:
        self.reader = reader
        self.latched = Latched()
        self.lost = Counts()
        self._frames = SeenFrames()
        self.windows = OpenWindows(
            WindowCopies(reader, directory, spool_bytes),
            self._frames,
            limits,
            report=report,
            losses=self.losses,
            hand_over=self._hand_over,
        )
        self._report = report
        self._seal = seal
        self._after = {CONTEXTS: 0, EVENTS: 0}
        self._frames_after: dict[int, int] = {}
        self._reached = 0  # sequence of the frame records that have been read
        self._tracking = tracking
        self._references = references
        self._measuring = tracking.measuring if tracking is not None else Measuring(self.lost)
        self._rules = Rules([])
        self._host_losses: dict[str, int] = {}
        self._waiting: deque[StageRecord] = deque()
        self._resume = resume
        self._at = (0, 0)  # sequence and number of the frame record and of the event that are being looked at
        self._pending_since: float | None = None

    def poll(self, now: float, *, skip_pending: bool = False) -> bool:
        """Take in what is new; say whether there was anything."""
        busy = self._read_contexts()
        stuck = self._pending_since is not None and now - self._pending_since > PENDING_SECONDS
        # Frames no further than they were before the events are read: an event must meet the frames as they stood.
        frames = FrameScan(self.reader, self._frames_after, skip_pending=skip_pending or stuck)
        for stage in self._stages(EVENTS, skip_pending):
            busy = True
            self._waiting.append(stage)
        for stage in self._read(frames):
            busy = True
            self._take_events(stage.source.sequence - 1, now)
            self._at = (stage.source.sequence, self._at[1])
            self._take_stage(stage, now)
        self._frames_after = frames.after
        self._reached = max(self._reached, frames.reached)
        self._pending_since = (self._pending_since or time.monotonic()) if frames.pending else None
        self._take_events(None if skip_pending else self._reached, now)
        self.windows.close_due(now)
        self.windows.report_in_time(now)
        return busy

    def close(self, reason: str, host: str, now: float) -> None:
        """The host is gone or asked for it: read the rest and close every window."""
        self.poll(now, skip_pending=True)
        self.windows.close_all(reason, host, now)

    def ask(self, kind: str, reason: str, now: float) -> None:
        """Fire a trigger that comes from outside the host, on every stream, as far as its frames have been read."""
        for stream in self._frames.latest_streams():
            about = self._frames.find(None, stream)
            trigger = Trigger(
                kind=kind, reason=reason, frame=about.id if about is not None else None, time_ns=time.time_ns()
            )
            self.windows.fire(stream, trigger, secrets.token_hex(16), now, about, at=self._at)

    @property
    def settled(self) -> tuple[int, int]:
        """Up to which frame record and event every incident is sealed, or there was none."""
        events = self._waiting[0].source.number - 1 if self._waiting else self._after[EVENTS]
        return self.windows.settled(self._reached, events)

    @property
    def has_frames(self) -> bool:
        """Whether the host recorded anything at all."""
        return self._reached > 0

    def losses(self) -> dict[str, int]:
        """Everything lost so far: by the host, in the ring, here."""
        total = Counts()
        total.update(self._host_losses)
        total.update(self.reader.refresh().losses)
        total.update(self.lost.snapshot())
        if self._tracking is not None:
            total.update(self._tracking.lost.snapshot())
        if self.latched.malformed:
            total.add("context-malformed", self.latched.malformed)
        return total.snapshot()

    def _read_contexts(self) -> bool:
        busy = False
        for stage in self._stages(CONTEXTS, False):
            busy = True
            self.latched.take(stage.kind, stage.head)
            if stage.kind == Kind.CONFIG:
                self.windows.book.policy = self.latched.policy
                self._rules = Rules(self.latched.rules, self.lost, self._model_name, self._references)
                self._measuring.policy = self.latched.privacy
        return busy

    def _model_name(self, model: int) -> str:
        known = self.latched.models.get(model)
        return known.name if known is not None else str(model)

    def _stages(self, region: int, skip_pending: bool) -> Iterator[StageRecord]:
        scan = self.reader.scan(region, self._after[region], skip_pending=skip_pending)
        yield from self._read(scan)
        self._after[region] = scan.after

    def _read(self, scan: Scan | FrameScan) -> Iterator[StageRecord]:
        for record in scan:
            try:
                stages = read_stages(self.reader, record)
            except RecordInvalid:
                self.lost.add("record-malformed")
                continue
            if not stages:
                self.lost.add("overwritten-before-read")
            yield from stages
        if scan.lost:
            self.lost.add("overwritten-before-read", scan.lost)

    def _take_stage(self, stage: StageRecord, now: float) -> None:
        try:
            if stage.kind == Kind.BEGIN:
                self._begin(stage)
                return
            frames = self._frames.add(stage)
            self.windows.copy(frames, stage)
            if stage.kind == Kind.END and frames:
                self._end(frames[0], now)
        except MALFORMED:
            self.lost.add("record-malformed")

    def _begin(self, stage: StageRecord) -> None:
        frame = self._frames.begin(stage)
        self.windows.book.frame_began(frame.stream, frame.id)
        self.windows.copy([frame], stage)

    def _end(self, frame: SeenFrame, now: float) -> None:
        is_new = frame.stages[-1].source.sequence > self._resume[0]
        row = self._measure(frame) if is_new else None
        self._frames.end(frame)
        for trigger in self._rules.evaluate(frame.stream, frame.id, frame.time_ns, frame.stages, row):
            if is_new:
                name = self._name(frame.stream, trigger.kind, frame.id)
                self.windows.fire(frame.stream, trigger, name, now, frame, at=self._at)
        book = self.windows.book
        book.frame_ended(frame.stream, frame.id)
        self._frames.remember(frame, book.policy.pre_frames + book.policy.post_frames + 1)
        self.windows.close_due(now)

    def _measure(self, frame: SeenFrame) -> Row | None:
        """Note a frame in the track, and return what was measured; without a track, only what a trigger needs."""
        if self._tracking is not None:
            return self._tracking.add(frame.id, frame.stream, frame.stages)
        if not self._rules.needs_row or self.latched.privacy.level_of("track") is Level.DIGEST_ONLY:
            return None
        try:
            return self._measuring.row(frame.id, frame.stream, frame.stages)[0]
        except (*MALFORMED, RecordInvalid):
            self.lost.add("track-row-malformed")
            return None

    def _take_events(self, read_up_to: int | None, now: float) -> None:
        """Carry out what the host asked for, once the frames it had recorded by then have been read."""
        while self._waiting:
            stage = self._waiting[0]
            after = stage.head.get("after", 0)
            if read_up_to is not None and isinstance(after, int) and after > read_up_to:
                return
            self._waiting.popleft()
            self._at = (self._at[0], stage.source.number)
            if stage.kind == Kind.TRIGGER and stage.source.number <= self._resume[1]:
                continue
            try:
                self._take_event(stage.kind, stage.head, now)
            except MALFORMED:
                self.lost.add("record-malformed")

    def _take_event(self, kind: int, head: dict[str, Any], now: float) -> None:
        match kind:
            case Kind.LOSSES:
                self._host_losses = {str(reason): abs(int(number)) for reason, number in head["lost"].items()}
            case Kind.VERIFIED:
                # What the comparison found was latched before this was written: it must be read before it counts.
                self._read_contexts()
                self.latched.verified_calls = max(self.latched.verified_calls, int(head["calls"]))
            case Kind.FLUSH:
                self.windows.close_all("flush", "alive", now)
                self._report({"event": "flush-requested", "flush": int(head["flush"])})
            case Kind.TRIGGER:
                self._take_trigger(head, now)

    def _take_trigger(self, head: dict[str, Any], now: float) -> None:
        kind, frame, name = str(head["kind"]), head["frame"], str(head["incident"])
        if not _INCIDENT.fullmatch(name):
            raise ValueError("an incident's id that the host never gives")  # it names files
        streams = [stream_name(str(head["stream"])) if head["stream"] is not None else self._frames.last_stream]
        if kind in EVERYWHERE_KINDS:
            streams = self._frames.latest_streams() or streams
        for stream in streams:
            about = self._frames.find(frame, stream)
            trigger = Trigger(
                kind=kind,
                reason=str(head["reason"]),
                frame=about.id if about is not None else frame,
                time_ns=int(head["time"]),
                severity=str(head["severity"]),
                parameters=dict(head["parameters"]),
            )
            self.windows.fire(stream, checked(trigger), name, now, about, at=self._at, has_handle=kind == "manual")
            name = self._name(name, stream)

    def _name(self, *parts: object) -> str:
        """Name an incident so that a sealer that takes over, and reads the same, gives it the same name."""
        return incident_name(self.reader, *parts)

    def _hand_over(self, incident: Incident, spool: SpooledStages | None) -> None:
        track = self._tracking.source() if self._tracking is not None else None
        self._seal(ClosedWindow(incident, spool.records if spool is not None else [], self.latched, spool, track))
