"""From verdicts to the one sentence a reader takes away, what was not checked, and the exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from replay.verdict import OUTCOMES, FrameVerdict, Level, WhatIf

__all__ = ["REQUIREMENTS", "conclude", "exit_code_of", "reaches"]

#: What `--require` takes, and the worst level that satisfies it.
REQUIREMENTS: dict[str, Level] = {
    "bit-exact": Level.BIT_EXACT,
    "tolerance": Level.WITHIN_TOLERANCE,
    "decision": Level.SAME_DECISION,
}

_HELD: dict[Level, str] = {
    Level.BIT_EXACT: "model and runtime give the recorded answer, bit for bit",
    Level.WITHIN_TOLERANCE: "model and runtime give the recorded answer within the tolerance of its precision",
    Level.SAME_DECISION: "model and runtime give other numbers and the same decision",
    Level.INCONCLUSIVE: "the answer differs, and it cannot be said whether the model or its surroundings changed",
    Level.NOT_REPLAYABLE: "not everything could be run here",
    Level.NONDETERMINISTIC: "replay disagrees with itself here, so nothing can be said about the recording",
    Level.DIVERGED: "the same model on the recorded inputs gives another answer here",
}


def reaches(level: Level, required: str) -> bool:
    """Whether a level satisfies `--require`."""
    order = list(Level)
    return order.index(level) <= order.index(REQUIREMENTS[required])


def exit_code_of(level: Level, required: str, complete: bool, what_if: WhatIf | None = None) -> int:
    """The exit code of the contract: 0 reproduced, 1 not, 3 not replayable or inconclusive, 5 nondeterministic, and 6
    where all that could be salvaged reproduces. After a change on purpose: 0 where no answer is wrong, 1 where one is.
    """
    if what_if is not None and level not in (Level.NOT_REPLAYABLE, Level.NONDETERMINISTIC):
        return 1 if any(frame.outcome in ("still wrong", "newly wrong") for frame in what_if.frames) else 0
    if level in (Level.INCONCLUSIVE, Level.NOT_REPLAYABLE):
        return 3
    if level is Level.NONDETERMINISTIC:
        return 5
    if not reaches(level, required):
        return 1
    return 0 if complete else 6


def conclude(
    frames: Sequence[FrameVerdict],
    verdict: Level,
    *,
    failure_reproduced: bool | None,
    unchecked: Sequence[str],
    what_if: WhatIf | None = None,
) -> str:
    """Write the sentence: what holds, for how many frames, whether the failure shows again, what was not checked."""
    if what_if is not None and verdict not in (Level.NOT_REPLAYABLE, Level.NONDETERMINISTIC):
        return "; ".join([_changed(what_if), *unchecked])
    parts = [_HELD[verdict]]
    counts = Counter(frame.level for frame in frames if frame.compared)
    left_out = sum(not frame.compared and not frame.thinned for frame in frames)
    if left_out and counts:
        parts.append(f"{left_out} of {len(frames)} frames held nothing to compare with")
    if len(counts) > 1:
        parts.append("of the frames, " + ", ".join(f"{counts[level]} {level}" for level in Level if counts[level]))
    if verdict is not Level.BIT_EXACT and (place := _place(frames)):
        parts.append(f"it begins in {place}")
    if failure_reproduced is not None:
        parts.append("the failure shows again" if failure_reproduced else "the failure does not show again")
    parts += unchecked
    return "; ".join(parts)


def _changed(what_if: WhatIf) -> str:
    counts = Counter(frame.outcome for frame in what_if.frames)
    said = (
        ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]) or "no frame had an answer"
    )
    judged = f"judged by {what_if.judged_by}" if what_if.judged_by else "nothing says which answers are right"
    return f"with {', '.join(what_if.changes)}: {said} ({judged})"


def _place(frames: Sequence[FrameVerdict]) -> str:
    """The layer of the first difference whose layer is known."""
    for frame in frames:
        layer = frame.first_difference.layer if frame.first_difference is not None else None
        if layer is not None:
            inside = f", in its operator {layer.operator}" if layer.operator not in (None, layer.kind) else ""
            return f"{layer.path or 'the model itself'} ({layer.kind}){inside}"
    return ""
