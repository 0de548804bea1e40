"""The verdict on a frame, from those on its calls."""

from __future__ import annotations

from collections.abc import Mapping

from recorder.bundle.manifest import Frame
from replay.verdict import CallVerdict, FrameVerdict, Level, worst

__all__ = ["thinned_frame", "verdict_of_calls"]


def verdict_of_calls(frame: Frame, verdicts: Mapping[int, CallVerdict], *, interrupted: bool = False) -> FrameVerdict:
    """Return the worst of a frame's calls that have something to compare with.

    Args:
        frame: the recorded frame.
        verdicts: by call id.
        interrupted: whether calls without a verdict were not reached.
    """
    calls = tuple(verdicts[call] for call in frame.calls if call in verdicts)
    if not calls:
        reason = "no model call was recorded in it"
        if interrupted:
            reason = "replay was interrupted before it"
        elif frame.status == "open":
            reason = "it was in flight when the process died, before any model call"
        return FrameVerdict(id=frame.id, level=Level.NOT_REPLAYABLE, reason=reason, compared=False)
    counting = [call for call in calls if call.compared] or list(calls)
    level = worst([call.level for call in counting])
    deciding = next(call for call in counting if call.level is level)
    return FrameVerdict(
        id=frame.id,
        level=level,
        first_difference=deciding.first_difference,
        calls=calls,
        reason=deciding.reason or next((call.reason for call in calls if not call.compared), ""),
        compared=deciding.compared,
    )


def thinned_frame(frame: int) -> FrameVerdict:
    """Return the verdict on a frame whose payload was left out for the size of the bundle."""
    reason = "thinned: its images and inputs were left out to keep the bundle within its size"
    return FrameVerdict(id=frame, level=Level.NOT_REPLAYABLE, reason=reason, compared=False, thinned=True)
