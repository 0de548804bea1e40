"""Reasons to seal an incident. A trigger is data, except `when`, whose predicate runs in the host.

The others are evaluated by the sealer, which reads the ring as it fills: they cost the host nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recorder.bundle.values import JsonValue

if TYPE_CHECKING:
    from recorder.frame import Frame

__all__ = ["Predicate", "Trigger", "exception", "low_confidence", "non_finite", "when"]

#: Called in the host at the end of every frame. True fires; a string fires and is the reason.
Predicate = Callable[["Frame"], "bool | str | None"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """One configured trigger; made by the functions of this module."""

    kind: str
    parameters: dict[str, JsonValue] = field(default_factory=dict)
    predicate: Predicate | None = None


def exception() -> Trigger:
    """Fire when an exception passes through a frame or an attached model."""
    return Trigger("exception")


def non_finite() -> Trigger:
    """Fire when an input or output of an attached model, or the answer, holds NaN or infinity."""
    return Trigger("non_finite")


def low_confidence(below: float, key: str | int | None = None, for_frames: int = 1) -> Trigger:
    """Fire when the answer is less sure than ``below``, ``for_frames`` frames of a stream in a row.

    What counts as confidence is told in `recorder.signals.confidence`: the top probability of a classification (softmax
    of logits), the best score of detections.

    Args:
        below: between 0 and 1.
        key: the entry that holds scores, probabilities or logits; looked for in ``frame.output``, then in the model's
            output. Without it: the model's output, at the entry that looks like it.
        for_frames: how many frames in a row.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < below <= 1:
        raise ValueError(f"low_confidence(below={below}) must lie in (0, 1]")
    if for_frames < 1:
        raise ValueError(f"low_confidence(for_frames={for_frames}) must be at least 1")
    return Trigger("low_confidence", {"below": float(below), "key": key, "for_frames": int(for_frames)})


def when(predicate: Predicate, name: str | None = None) -> Trigger:
    """Fire when ``predicate(frame)`` is true at the end of a frame; a returned string becomes the reason.

    It runs on the calling thread: keep it to a few microseconds. One that raises is counted and never seen by the host.

    Raises:
        ValueError: the predicate is not callable.
    """
    if not callable(predicate):
        raise ValueError("when() takes a function of the frame")
    return Trigger("when", {"name": name or getattr(predicate, "__name__", "predicate")}, predicate)
