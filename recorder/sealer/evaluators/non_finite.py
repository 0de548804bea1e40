"""A tensor of a frame holds values that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.records import Kind
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import fired
from recorder.signals import count_non_finite

__all__ = ["NonFinite"]


class NonFinite:
    """The first part of a frame that holds any."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        pass

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
        for part in frame.parts(Kind.INPUT, Kind.OUTPUT, Kind.END):
            count = count_non_finite(part.value, part.tensors)
            if count:
                where = f"the {part.name} of call {part.call}" if part.call is not None else f"the {part.name}"
                return fired(
                    "non_finite",
                    frame,
                    f"{count} values in {where} are NaN or infinite",
                    value=float(count),
                    threshold=0.0,
                    parameters={"part": part.name, "call": part.call, "model": part.model},
                )
        return None
