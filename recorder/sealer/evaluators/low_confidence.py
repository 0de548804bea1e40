"""A model is not sure enough, for some frames in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import PerStream, fired

__all__ = ["LowConfidence"]


@dataclass(slots=True)
class _Run:
    length: int = 0


class LowConfidence:
    """Counts the frames of each stream that are below."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._below = float(parameters["below"])
        self._key = parameters.get("key")
        self._for_frames = int(parameters.get("for_frames", 1))
        self._runs = PerStream(_Run)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
        judged, run = frame.judged(self._key), self._runs.of(frame.stream)
        if judged is None or judged[1] >= self._below:
            run.length = 0
            return None
        run.length += 1
        if run.length < self._for_frames:
            return None
        part, measured = judged
        lasting = f" for {run.length} frames in a row" if self._for_frames > 1 else ""
        return fired(
            "low_confidence",
            frame,
            f"confidence {measured:.3f} is below {self._below:g}{lasting}",
            value=measured,
            threshold=self._below,
            parameters={
                "below": self._below,
                "key": self._key,
                "for_frames": self._for_frames,
                "source": "answer" if part.name == "answer" else "model",
                "row": part.row,
            },
        )
