"""Run the user's pipeline over a bundle's frames, twice, and say of each frame which stage gave something else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame
from replay.exchange import digest_of, recorded_answer
from replay.pipeline.run import PipelineRunner, Ran
from replay.pipeline.stages import PipelineVerdict, compare_stages
from replay.verdict import Difference, FrameChange, FrameVerdict, Level, worst
from replay.whatif import Judge, Side

__all__ = ["run_pipeline", "with_stages"]

_UNSTEADY = "two passes of the pipeline differ"


def run_pipeline(
    bundle: Bundle,
    frames: Sequence[Frame],
    runner: PipelineRunner,
    *,
    repeat: int,
    thresholds: Sequence[float],
    judge: Judge | None,
    progress: Callable[[], None],
) -> tuple[dict[int, PipelineVerdict], dict[int, FrameChange]]:
    """Run every frame, and again, in a fresh process, to see whether the pipeline agrees with itself.

    Args:
        bundle: open; it is only read.
        frames: the frames wanted.
        runner: set up with the pipeline.
        repeat: passes.
        thresholds: confidences at which the service acts.
        judge: where something was changed on purpose, who says what that did.
        progress: called once a frame and pass.

    Returns:
        By frame id: what the stages gave, and, with a judge, what became of the decision.

    Raises:
        BundleInvalid, BundleUnavailable: recorded bytes are not what the manifest says.
    """
    verdicts: dict[int, PipelineVerdict] = {}
    changes: dict[int, FrameChange] = {}
    digests: dict[int, bytes] = {}
    for frame in frames:
        ran = runner.run(frame)
        verdicts[frame.id] = compare_stages(bundle, frame, ran, thresholds=thresholds, edited=judge is not None)
        digests[frame.id] = _digest(ran)
        if judge is not None:
            recorded, replayed = _judged(bundle, frame, ran, judge)
            changes[frame.id] = judge.change(frame, recorded, replayed, verdicts[frame.id].level)
        progress()
    for _ in range(repeat - 1):
        runner.restart()
        for frame in frames:
            ran = runner.run(frame)
            if ran.failed is None and _digest(ran) != digests[frame.id] and verdicts[frame.id].stages:
                verdicts[frame.id] = replace(verdicts[frame.id], level=Level.NONDETERMINISTIC, reason=_UNSTEADY)
            progress()
    return verdicts, changes


def with_stages(verdict: FrameVerdict, found: PipelineVerdict) -> FrameVerdict:
    """A frame's verdict with what its pipeline gave: the worse of both, and the first stage that differs."""
    if found.level is Level.NONDETERMINISTIC:
        return replace(verdict, level=found.level, reason=found.reason, stages=found.stages, compared=True)
    runnable = bool(found.stages) and found.level is not Level.NOT_REPLAYABLE
    levels = ([verdict.level] if verdict.compared else []) + ([found.level] if runnable else [])
    if not levels:
        return replace(verdict, reason=found.reason or verdict.reason, stages=found.stages)
    if not runnable:
        return replace(verdict, level=Level.NOT_REPLAYABLE, reason=found.reason, stages=found.stages)
    return replace(
        verdict,
        level=worst(levels),
        first_difference=_first(found) or verdict.first_difference,
        reason=(verdict.reason if verdict.compared else "") or found.reason,
        stages=found.stages,
        compared=True,
    )


def _first(found: PipelineVerdict) -> Difference | None:
    stage = next((stage for stage in found.stages if stage.difference is not None), None)
    if stage is None or stage.difference is None:
        return None
    if stage.note:
        return replace(stage.difference, what=f"{stage.difference.what}; {stage.note}")
    return stage.difference


def _digest(ran: Ran) -> bytes:
    digest = hashlib.sha256(repr((ran.raised, ran.failed)).encode())
    for call in ran.calls:
        for part in (call.args, call.kwargs, call.output):
            digest.update(digest_of(part) if part is not None else b"-")
    digest.update(digest_of(ran.answer) if ran.answer is not None else b"-")
    return digest.digest()


def _judged(bundle: Bundle, frame: Frame, ran: Ran, judge: Judge) -> tuple[Side, Side | None]:
    """Both sides, with whether the trigger fires on what their models gave: a service's answer may not tell."""
    then, now = _sides(bundle, frame, ran)
    by_id = {call.id: call for call in bundle.manifest.calls}
    fired = []
    for call in (by_id[each] for each in frame.calls if each in by_id):
        if call.parent is None and call.output is not None:
            row = call.frames.index(frame.id) if len(call.frames) > 1 and frame.id in call.frames else None
            fired.append(judge.fires(Side(answer=recorded_answer(call.output, bundle.tensor_bytes), row=row)))
    if now is not None:
        now = replace(now, fired=tuple(judge.fires(Side(answer=each.output)) for each in ran.calls if each.output))
    return replace(then, fired=tuple(fired)), now


def _sides(bundle: Bundle, frame: Frame, ran: Ran) -> tuple[Side, Side | None]:
    """The recorded and the changed answer: the service's own where it was recorded, else the last model's."""
    by_id = {call.id: call for call in bundle.manifest.calls}
    recorded_calls = [by_id[each] for each in frame.calls if each in by_id and by_id[each].parent is None]
    then = Side(raised=frame.exception.type) if frame.exception is not None else Side()
    now = Side(raised=ran.raised) if ran.raised is not None else None
    if frame.output is not None and frame.exception is None:
        then = Side(answer=recorded_answer(frame.output, bundle.tensor_bytes))
        if now is None and ran.answer is not None:
            now = Side(answer=ran.answer)
        return then, now
    if recorded_calls and recorded_calls[-1].output is not None and frame.exception is None:
        call = recorded_calls[-1]
        assert call.output is not None  # noqa: S101 - just seen
        row = call.frames.index(frame.id) if len(call.frames) > 1 and frame.id in call.frames else None
        then = Side(answer=recorded_answer(call.output, bundle.tensor_bytes), row=row)
    if now is None and ran.calls and ran.calls[-1].output is not None:
        now = Side(answer=ran.calls[-1].output)
    elif now is None and ran.answer is not None:
        now = Side(answer=ran.answer)
    return then, now
