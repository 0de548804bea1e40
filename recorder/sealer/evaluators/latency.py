"""A frame took longer than a bound, or than its stream usually takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.quantile import StreamingQuantile
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import PerStream, fired

__all__ = ["Latency"]

#: Frames that a latency quantile remembers at full weight.
LATENCY_MEMORY_FRAMES = 10_000


class Latency:
    """Estimates the quantile of each stream."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = dict(parameters)
        above, quantile = parameters.get("above_ms"), parameters.get("quantile")
        self._above_ms = float(above) if above is not None else None
        self._times = float(parameters.get("times", 1.0))
        self._min_frames = int(parameters["min_frames"])
        wanted = float(quantile) if quantile is not None else 0.5
        self._quantiles = PerStream(lambda: StreamingQuantile(wanted, LATENCY_MEMORY_FRAMES))

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
        if frame.end is None:
            return None
        taken_ms, earlier = float(frame.end.head["latency"]) * 1e3, self._quantiles.of(frame.stream)
        known = earlier.count >= self._min_frames
        bound_ms = self._above_ms if self._above_ms is not None else self._times * earlier.value()
        earlier.add(taken_ms)
        if not known or taken_ms <= bound_ms:
            return None
        what = "the bound" if self._above_ms is not None else f"{self._times:g} x the stream's quantile"
        return fired(
            "latency",
            frame,
            f"the frame took {taken_ms:.1f} ms, above {what} of {bound_ms:.1f} ms",
            value=taken_ms,
            threshold=bound_ms,
            parameters=self._parameters,
        )
