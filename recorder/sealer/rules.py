"""The triggers that the sealer evaluates, on the records of a frame that has just ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from recorder.bundle.codec import value_from_json
from recorder.bundle.manifest import Trigger
from recorder.bundle.values import TensorValue
from recorder.counts import Counts
from recorder.drift.scores import MAX_EMBEDDING
from recorder.records import Kind
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators import COMPARING, EVALUATORS, Evaluator
from recorder.sealer.latched import TriggerRule
from recorder.sealer.placing import placed
from recorder.sealer.references import References, Watched
from recorder.sealer.stages import MALFORMED, StageRecord
from recorder.track import Row

__all__ = ["Rules"]


class Rules:
    """Evaluates the configured triggers frame by frame.

    Args:
        rules: as latched. One whose kind or parameters are not known is counted as "trigger-unknown".
        lost: where it is counted what could not be evaluated.
        model_name: names a model by its id.
        references: what streams are compared with; None: nothing, and no trigger that compares fires.

    Attributes:
        needs_row: whether one of them looks at what is measured of each frame.
    """

    def __init__(
        self,
        rules: Sequence[TriggerRule],
        lost: Counts | None = None,
        model_name: Callable[[int], str] = str,
        references: References | None = None,
    ) -> None:
        self._lost = lost if lost is not None else Counts()
        self._model_name = model_name
        self._references = references
        compares = any(rule.kind in COMPARING for rule in rules)
        self.needs_row = references is not None and references.is_used and compares
        self._evaluators: list[Evaluator] = []
        for rule in rules:
            try:
                self._evaluators.append(EVALUATORS[rule.kind](rule.parameters))
            except MALFORMED:
                self._lost.add("trigger-unknown")

    def evaluate(
        self, stream: str, frame: int, time_ns: int, stages: Sequence[StageRecord], row: Row | None = None
    ) -> list[Trigger]:
        """Return the triggers that fire on a frame, given its records and what was measured of it."""
        watched = self._watch(row, stages)
        ended = EndedFrame(stream, frame, time_ns, stages, self._lost, self._model_name, watched)
        fired = []
        for evaluator in self._evaluators:
            try:
                trigger = evaluator.evaluate(ended)
            except MALFORMED:  # one rule that fails must not keep the others from firing
                self._lost.add("trigger-not-evaluated")
                continue
            if trigger is not None:
                fired.append(trigger)
        return fired

    def _watch(self, row: Row | None, stages: Sequence[StageRecord]) -> Watched | None:
        if row is None or self._references is None or not self.needs_row:
            return None
        try:
            return self._references.watch(row, _embedding(stages, row.frame))
        except MALFORMED:
            self._lost.add("trigger-not-evaluated")
            return None


def _embedding(stages: Sequence[StageRecord], frame: int) -> npt.NDArray[np.float32] | None:
    """The frame's row of the last embedding recorded for it; None where there is none, or it is not finite."""
    stage = next((stage for stage in reversed(stages) if stage.kind == Kind.EMBEDDING), None)
    if stage is None:
        return None
    tensor = value_from_json(placed(stage.head["embedding"]))
    if not isinstance(tensor, TensorValue) or tensor.dtype != "float32" or len(tensor.shape) != 2:
        raise ValueError("an embedding that no host writes")
    rows, size = tensor.shape
    frames = list(stage.head["frames"])
    row = frames.index(frame) if rows == len(frames) else 0
    if not 0 < size <= MAX_EMBEDDING or row >= rows or tensor.size_bytes != 4 * rows * size:
        raise ValueError("an embedding that no host writes")
    data = stage.payload(tensor.offset + 4 * row * size, 4 * size)
    found = None if data is None else np.frombuffer(data, np.float32)
    return found if found is not None and np.isfinite(found).all() else None
