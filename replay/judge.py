"""The verdict on one call: what was recorded, what replay gave, and what of that can be compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from recorder.bundle.manifest import ExceptionInfo
from recorder.bundle.values import has_removed
from replay.comparators import ComparatorFailed, RegisteredComparator
from replay.compare.comparison import Answer, compare_answers
from replay.exchange import ReadTensor, recorded_answer
from replay.outcome import Failed, Job, Outcome, Raised, Returned
from replay.show.text import inert
from replay.verdict import CallVerdict, Difference, Level

__all__ = ["disagreement", "judge", "soften"]

#: Addresses in messages change from process to process.
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")

REMOVED_OUTPUT = (
    "its answer was removed for privacy, so there is nothing to compare; to keep it, state a level for model_output "
    "when recording (docs/privacy.md)"
)

#: Recorder and worker cut messages at some length; from here on only their beginnings are compared.
_CUT_CHARS = 500


def judge(
    job: Job,
    outcome: Outcome,
    read: ReadTensor,
    thresholds: Sequence[float] = (),
    *,
    task: str | None = None,
    comparator: RegisteredComparator | None = None,
) -> CallVerdict:
    """Compare one outcome with the recording.

    Args:
        job: the recorded call.
        outcome: what the worker gave.
        read: gives a recorded tensor's bytes.
        thresholds: confidences at which the service acts.
        task: which comparator decides; None: chosen from the answer's structure.
        comparator: one of the user's own, in place of the task's.

    Raises:
        BundleInvalid, BundleUnavailable: recorded bytes are not what the manifest says.
    """
    match job.call.status, outcome:
        case "open", _:
            return _in_flight(job, outcome)
        case _, Failed(reason=reason):
            return _verdict(job, Level.NOT_REPLAYABLE, reason=reason)
        case "returned", Returned(answer=answer):
            return _compare(job, answer, read, thresholds, task, comparator)
        case "raised", Raised() if job.call.exception is not None:
            return _compare_exceptions(job, job.call.exception, outcome)
        case _, Raised(cannot=str(cannot)):
            return _verdict(job, Level.NOT_REPLAYABLE, reason=cannot)
        case "returned", Raised():
            said = f"{outcome.type}: {inert(outcome.message, 200)}"
            what = f"an answer was recorded, replay raised {said}"
            return _verdict(job, Level.DIVERGED, _exception(job, what, None, outcome.type))
    recorded = inert(job.call.exception.type, 120) if job.call.exception else "an exception"
    what = f"{recorded} was recorded, replay returned an answer"
    return _verdict(job, Level.DIVERGED, _exception(job, what, recorded, None))


def disagreement(job: Job, first: Answer | None, again: Outcome) -> CallVerdict:
    """The verdict on a call that gave something else in a later pass of the same replay."""
    if isinstance(again, Failed) and not again.died:
        return _verdict(job, Level.NOT_REPLAYABLE, reason=f"it ran once and not again: {again.reason}")
    difference = Difference(stage="model", where=_where(job), what="a second pass gave other bytes than the first")
    if isinstance(again, Returned) and first is not None:
        found = compare_answers(first, again.answer, where=_where(job)).first_difference
        if found is not None:
            difference = replace(found, what=f"two passes of this replay differ: {found.what}")
    elif not isinstance(again, Returned):
        said = again.reason if isinstance(again, Failed) else f"{again.type} was raised"
        difference = replace(difference, what=f"the first pass gave another result than the second: {said}")
    return _verdict(job, Level.NONDETERMINISTIC, difference)


def soften(verdict: CallVerdict, reason: str) -> CallVerdict:
    """Turn *diverged* into *inconclusive*, for a reason that leaves the difference unexplained."""
    return replace(verdict, level=Level.INCONCLUSIVE, reason=reason)


def _compare(
    job: Job,
    answer: Answer,
    read: ReadTensor,
    thresholds: Sequence[float],
    task: str | None,
    comparator: RegisteredComparator | None,
) -> CallVerdict:
    if job.call.output is None:
        return _verdict(job, Level.NOT_REPLAYABLE, reason="its answer was not recorded, so there is nothing to compare")
    if has_removed(job.call.output):
        return _verdict(job, Level.NOT_REPLAYABLE, reason=REMOVED_OUTPUT)
    try:
        comparison = compare_answers(
            recorded_answer(job.call.output, read),
            answer,
            autocast_dtype=_compute_dtype(job),
            task=task,
            thresholds=thresholds,
            where=_where(job),
            comparator=comparator,
        )
    except ComparatorFailed as failed:
        return _verdict(job, Level.INCONCLUSIVE, reason=str(failed))
    return _verdict(job, comparison.level, comparison.first_difference)


def _compute_dtype(job: Job) -> str | None:
    """The lowest precision the call computed in, where that is not its output's."""
    dtypes = set(job.call.settings.autocast.values())
    for dtype in ("bfloat16", "float16"):
        if dtype in dtypes:
            return dtype
    settings = job.context.environment.settings
    tf32 = any(settings.get(f"torch.fp32_precision.cuda.{op}") == "tf32" for op in ("matmul", "conv"))
    return "tf32" if tf32 and job.context.environment.gpus else None


def _compare_exceptions(job: Job, recorded: ExceptionInfo, raised: Raised) -> CallVerdict:
    """The same type out of the same call is the same failure; a message may name sizes or addresses."""
    if recorded.type != raised.type:
        if raised.cannot is not None:
            return _verdict(job, Level.NOT_REPLAYABLE, reason=raised.cannot)
        what = f"{inert(recorded.type, 120)} was recorded, replay raised {raised.type}"
        return _verdict(job, Level.DIVERGED, _exception(job, what, inert(recorded.type, 120), raised.type))
    then, now = _ADDRESS.sub("0x…", recorded.message), _ADDRESS.sub("0x…", raised.message)
    length = min(len(then), len(now)) if max(len(then), len(now)) >= _CUT_CHARS else max(len(then), len(now))
    if then[:length] == now[:length]:
        return _verdict(job, Level.BIT_EXACT)
    difference = _exception(job, f"the same {raised.type} with another message", inert(then, 120), inert(now, 120))
    return _verdict(job, Level.SAME_DECISION, difference)


def _in_flight(job: Job, outcome: Outcome) -> CallVerdict:
    reason = "it was in flight when the process died, so nothing was recorded to compare with; "
    match outcome:
        case Failed(died=True, reason=why):
            reason += f"the replay worker died on it as well: {why}"
        case Failed(reason=why):
            reason += f"replay could not run it: {why}"
        case Raised(type=kind):
            reason += f"replay raised {kind}"
        case Returned():
            reason += "replay returned an answer"
    return replace(_verdict(job, Level.NOT_REPLAYABLE, reason=reason), compared=False)


def _verdict(job: Job, level: Level, difference: Difference | None = None, reason: str = "") -> CallVerdict:
    return CallVerdict(
        call=job.call.id, model=inert(job.model.name, 80), level=level, first_difference=difference, reason=reason
    )


def _exception(job: Job, what: str, recorded: str | None, replayed: str | None) -> Difference:
    return Difference(stage="exception", where=_place(job), what=what, recorded=recorded, replayed=replayed)


def _where(job: Job) -> str:
    return f"{_place(job)} output"


def _place(job: Job) -> str:
    return f"call {job.call.id} ({inert(job.model.name, 80)})"
