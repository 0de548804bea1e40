"""What a recorder has done so far, as one value."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from recorder.counts import Counts
from recorder.session import Session

__all__ = ["Stats", "stats_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What the recorder has done so far. Reasons are short fixed names."""

    frames_recorded: int
    frames_lost: dict[str, int] = field(default_factory=dict)  #: parts or whole records that were not kept, by reason
    incidents_sealed: int = 0
    incidents_suppressed: dict[str, int] = field(
        default_factory=dict
    )  #: "cooldown", "duplicate", "hour-cap", "day-cap", "signature-cap"
    ring_bytes: int = 0  #: size of the mapped file; 0: nothing is recorded
    overhead_fraction: float = 0.0  #: share of wall time spent in the recorder on calling threads
    errors: dict[str, int] = field(default_factory=dict)  #: faults that were caught, by reason
    payload_interval: int = 1  #: every n-th frame keeps its images and inputs; more than 1 over ``overhead_budget``
    frame_interval: int = 1  #: every n-th frame is recorded at all
    affordable_frames_per_second: float | None = None  #: in full, within the budget; None while it was never exceeded
    references: int = 0  #: streams whose reference was learnt in a warm-up, now or before
    track_rows: int = 0  #: frames in the compact track, by a sealer that may have begun later; ten seconds behind
    track_seconds: float = 0.0  #: CPU time the sealer's process took to measure and write them
    switched_off: str | None = None  #: why the recorder gave up, None while it works


def stats_of(session: Session, earlier: Counts, unseen_graphs: int, switched_off: str | None) -> Stats:
    """Put together what a session counted.

    Args:
        session: of this process.
        earlier: faults of the recorder that belong to no session.
        unseen_graphs: calls that a compiled graph made without the hooks seeing them.
        switched_off: why the recorder gave up; None: it works.
    """
    outcomes = session.outcomes
    errors, suppressed, sealed = Counts(), {}, 0
    errors.update(earlier.snapshot())
    errors.update(session.errors.snapshot())
    if outcomes is not None:
        outcomes.poll()
        suppressed, sealed = outcomes.suppressed.snapshot(), outcomes.sealed
        for reason, number in outcomes.failures.snapshot().items():
            errors.add(f"not-sealed: {reason}", number)
        errors.update(outcomes.faults.snapshot())
    lost = session.losses()
    if unseen_graphs:
        lost["inside-compiled-graph"] = unseen_graphs
    elapsed_ns = max(1, time.perf_counter_ns() - session.started_ns)
    return Stats(
        frames_recorded=session.frames_recorded,
        frames_lost=lost,
        incidents_sealed=sealed,
        incidents_suppressed=suppressed,
        ring_bytes=session.ring_bytes,
        overhead_fraction=session.spent_ns / elapsed_ns,
        errors=errors.snapshot(),
        payload_interval=session.governor.payload_interval,
        frame_interval=session.governor.frame_interval,
        affordable_frames_per_second=session.governor.affordable_per_second,
        references=outcomes.references if outcomes is not None else 0,
        track_rows=outcomes.track_rows if outcomes is not None else 0,
        track_seconds=outcomes.track_seconds if outcomes is not None else 0.0,
        switched_off=switched_off,
    )
