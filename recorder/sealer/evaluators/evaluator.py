"""What decides on a frame, and what all such have in common."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from recorder.bundle.manifest import Trigger
from recorder.bundle.values import JsonValue
from recorder.sealer.ended import EndedFrame

__all__ = ["Evaluator", "PerStream", "fired"]

#: Streams remembered by each trigger; a stream key made of something unique must not grow the sealer.
MAX_STREAMS = 1_024

T = TypeVar("T")


class Evaluator(Protocol):
    """Decides whether a frame fires a trigger."""

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """Return the trigger that fires on this frame, None mostly."""


class PerStream(Generic[T]):
    """Something for each of the latest `MAX_STREAMS` streams."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._kept: OrderedDict[str, T] = OrderedDict()

    def of(self, stream: str) -> T:
        """Return a stream's, made when it is asked for first."""
        if stream not in self._kept:
            self._kept[stream] = self._make()
            if len(self._kept) > MAX_STREAMS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(stream)
        return self._kept[stream]


def fired(
    kind: str,
    frame: EndedFrame,
    reason: str,
    *,
    value: float | None = None,
    threshold: float | None = None,
    parameters: dict[str, JsonValue],
) -> Trigger:
    """Return the trigger that a frame fires."""
    return Trigger(
        kind=kind,
        reason=reason[:1_000],
        frame=frame.id,
        time_ns=frame.time_ns,
        value=value,
        threshold=threshold,
        parameters=parameters,
    )
