"""Whether the trigger that opened an incident fires on what a replay gave."""

from __future__ import annotations

from collections.abc import Sequence

from recorder.bundle.manifest import Call, Trigger
from recorder.signals import reevaluate
from replay.outcome import Outcome, Raised, Returned

__all__ = ["failure_shows", "frame_fails"]


def failure_shows(trigger: Trigger | None, call: Call, outcome: Outcome, row: int | None = None) -> bool | None:
    """Evaluate a trigger again.

    Args:
        trigger: of the frame that the call belongs to; None: there is none.
        call: the recorded call.
        outcome: what came of it in a replay.
        row: the frame's item, where the replayed batch is not the recorded one.

    Returns:
        Whether it fires; None where a single answer cannot tell.
    """
    if trigger is None:
        return None
    if trigger.kind == "exception":
        recorded = call.exception
        if recorded is None or call.status != "raised":
            return None
        if isinstance(outcome, Raised):
            return outcome.type == recorded.type or (None if outcome.cannot else False)
        return False
    if isinstance(outcome, Returned) and outcome.answer.value is not None:
        parameters = trigger.parameters if row is None else {**trigger.parameters, "row": row}
        return reevaluate(trigger.kind, parameters, outcome.answer.value, outcome.answer.tensors)
    return None


def frame_fails(kind: str, shown: Sequence[bool | None]) -> bool | None:
    """Whether a trigger fires on a frame, told as the sealer tells it from all of the frame's model calls.

    Args:
        kind: of the trigger.
        shown: what each call says by itself, in their order.

    Returns:
        How sure an answer is, the last call that tells it decides; anything else fires by any call. None where no call,
        or not every one that matters, can tell.
    """
    if kind == "low_confidence":
        return next((each for each in reversed(shown) if each is not None), None)
    if any(shown):
        return True
    return None if (None in shown and kind == "non_finite") or all(each is None for each in shown) else False
