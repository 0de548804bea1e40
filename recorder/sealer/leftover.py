"""What a dead process left in its ring, as one window."""

from __future__ import annotations

from recorder.bundle.manifest import Incident, Trigger, Window
from recorder.counts import Counts
from recorder.incident import signature_of
from recorder.records import Kind, RecordInvalid
from recorder.ring import CONTEXTS, FrameScan, RingReader, Scan
from recorder.sealer.latched import Latched
from recorder.sealer.stages import StageRecord, read_stage
from recorder.sealer.tracking import TrackSource
from recorder.sealer.window import ClosedWindow

__all__ = ["salvage"]


def salvage(
    reader: RingReader, incident: str, earlier: list[Trigger], reason: str, *, kind: str = "process_died"
) -> ClosedWindow:
    """Make one window of everything a dead process left in its ring, straight from the ring.

    Args:
        reader: the ring; nobody writes it any more.
        incident: the id to seal under.
        earlier: triggers whose windows were still open.
        reason: the sentence of the trigger.
        kind: its kind.
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
                stage = read_stage(reader, record)
            except RecordInvalid:
                lost.add("record-malformed")
                continue
            if stage is not None:
                found.append(stage)
    for stage in contexts:
        latched.take(stage.kind, stage.head)
    begun = {stage.key for stage in frames if stage.kind == Kind.BEGIN and stage.key < 2**63}
    ended = {stage.key for stage in frames if stage.kind == Kind.END}
    in_flight = sorted(begun - ended)
    about = in_flight[-1] if in_flight else max(begun, default=None)
    header = reader.refresh()
    lost.update(header.losses)
    track = TrackSource.beside(reader)
    ended_ns = min(header.heartbeat_ns, 2**63 - 1)  # a damaged ring claims any number
    trigger = Trigger(kind=kind, reason=reason, frame=about, time_ns=ended_ns, severity="high")
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
                closed_by="death" if kind == "process_died" else "recover",
            ),
            triggers=(trigger, *earlier),
            host="died",
            lost=lost.snapshot(),
            signature=signature_of(trigger),
        ),
        frames,
        latched,
        track=track,
    )
