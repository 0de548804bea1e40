"""A frame, or a model in it, ended with an exception."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.bundle.values import JsonValue
from recorder.records import Kind
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import fired

__all__ = ["ExceptionRaised"]

#: Innermost traceback entries that tell exceptions apart: a torch module adds three a level.
TRACEBACK_ENTRIES = 8


class ExceptionRaised:
    """The first exception of a frame, at most one trigger."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        pass

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
        for stage in frame.stages:
            found = stage.head.get("exception") if stage.kind in (Kind.OUTPUT, Kind.END) else None
            if found:
                innermost = found.get("traceback", ())[-TRACEBACK_ENTRIES:]
                at: list[JsonValue] = [str(entry) for entry in innermost]
                reason = f"{found['type']}: {found['message']}"
                return fired(
                    "exception",
                    frame,
                    reason,
                    parameters={"type": str(found["type"]), "stage": str(found["stage"]), "at": at},
                )
        return None
