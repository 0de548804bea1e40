"""What a difference cannot prove: an unproven graph, surroundings that were not restored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replay.conclusion import reaches
from replay.judge import soften
from replay.session import Job, Session
from replay.sources import REMEDY, Candidate
from replay.verdict import CallVerdict, Level

__all__ = ["qualify", "remedies_for"]


def qualify(jobs: Sequence[Job], verdicts: dict[int, CallVerdict], session: Session) -> dict[int, CallVerdict]:
    """Return the verdicts by call id, softened where a difference does not prove that the model answers differently.

    Args:
        jobs: what was run.
        verdicts: by call id; calls without one were not reached.
        session: that ran them.
    """
    judged = [job for job in jobs if job.call.id in verdicts]
    proven = set()
    for job in judged:
        source = session.source_of(job)
        if source is not None and job.call.status == "returned" and reaches(verdicts[job.call.id].level, "tolerance"):
            proven.add(source.graph_digest)
    softened = dict(verdicts)
    for job in judged:
        verdict, lacking = verdicts[job.call.id], [*session.lacking(job), *session.notes_of(job)]
        reason = _doubt(job, verdict, session.source_of(job), proven, lacking)
        if reason:
            softened[job.call.id] = soften(verdict, reason)
    return softened


def remedies_for(verdicts: Iterable[CallVerdict]) -> tuple[str, ...]:
    """What the user can do about calls that could not be run, each once."""
    reasons = [verdict.reason for verdict in verdicts]
    found = [REMEDY] if any(REMEDY in reason for reason in reasons) else []
    if any("--models LOCATION" in reason for reason in reasons):
        found.append("name the model store: --models LOCATION")
    return tuple(found)


def _doubt(
    job: Job, verdict: CallVerdict, source: Candidate | None, proven: set[str | None], lacking: list[str]
) -> str | None:
    """Why a difference does not prove that the model answers differently; None where it does."""
    if source is not None and source.origin == "graph":
        if job.call.status == "raised" and verdict.level is Level.DIVERGED:
            return f"a stored graph holds none of the model's own checks, which may have raised; {REMEDY}"
        if source.graph_digest not in proven and verdict.level in (Level.SAME_DECISION, Level.DIVERGED):
            return f"the stored graph has reproduced no recorded call, so it may not be the model; {REMEDY}"
    if verdict.level is Level.DIVERGED and lacking:
        return f"the answer differs, and not everything is as it was recorded: {lacking[0]}"
    return None
