"""What a dead process left in its ring, as one window."""

from __future__ import annotations

import contextlib

from recorder.bundle.manifest import Incident, Trigger, Window
from recorder.counts import Counts
from recorder.limits import signature_of
from recorder.records import Kind, RecordInvalid
from recorder.ring import CONTEXTS, EVENTS, FrameScan, RingReader, Scan
from recorder.sealer.latched import Latched
from recorder.sealer.stages import StageRecord, read_stages
from recorder.sealer.tracking import TrackSource
from recorder.sealer.window import ClosedWindow

__all__ = ["salvage"]


def salvage(reader: RingReader, incident: str, reason: str, *, ending: str) -> ClosedWindow:
    """Make one window of everything a dead process left in its ring, straight from the ring.

    Args:
        reader: the ring; nobody writes it any more.
        incident: the id to seal under.
        reason: the sentence of the trigger.
        ending: how the process ended: it tells one cause of death from another.
    """
    latched, lost = Latched(), Counts()
    contexts: list[StageRecord] = []
    frames: list[StageRecord] = []
    scans: tuple[Scan | FrameScan, ...] = (
        reader.scan(CONTEXTS, skip_pending=True),
        FrameScan(reader, {}, skip_pending=True),
    )
    for scan, found in zip(scans, (contexts, frames), strict=True):
        for record in scan:
            try:
                found += read_stages(reader, record)
            except RecordInvalid:
                lost.add("record-malformed")
    for stage in contexts:
        latched.take(stage.kind, stage.head)
    latched.verified_calls = _verified_calls(reader)
    begun = {stage.key for stage in frames if stage.kind == Kind.BEGIN}
    ended = {stage.key for stage in frames if stage.kind == Kind.END}
    in_flight = sorted(begun - ended)
    about = in_flight[-1] if in_flight else max(begun, default=None)
    header = reader.refresh()
    lost.update(header.losses)
    track = TrackSource.beside(reader)
    trigger = Trigger(
        kind="process_died",
        reason=reason,
        frame=about,
        time_ns=header.heartbeat_ns,
        severity="high",
        parameters={"ending": ending},
    )
    policy = latched.policy
    return ClosedWindow(
        Incident(
            id=incident,
            stream="",
            severity="high",
            opened_ns=trigger.time_ns,
            window=Window(
                pre_frames=policy.pre_frames,
                post_frames=policy.post_frames,
                post_seconds=policy.post_seconds,
                closed_by="death",
            ),
            triggers=(trigger,),
            host="died",
            lost=lost.snapshot(),
            signature=signature_of(trigger),
        ),
        frames,
        latched,
        track=track,
    )


def _verified_calls(reader: RingReader) -> int:
    """How many calls had begun when the host last compared its models' weights."""
    newest = 0
    for record in reader.scan(EVENTS, skip_pending=True):
        if record.kind == Kind.VERIFIED:
            with contextlib.suppress(RecordInvalid, KeyError, TypeError, ValueError):
                newest = max([newest, *(int(stage.head["calls"]) for stage in read_stages(reader, record))])
    return newest
