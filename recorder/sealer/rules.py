"""The triggers that the sealer evaluates, on the records of a frame that has just ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recorder.bundle.manifest import Trigger
from recorder.counts import Counts
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators import COMPARING, EVALUATORS, Evaluator
from recorder.sealer.latched import TriggerRule
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
        self.needs_row = references is not None and any(rule.kind in COMPARING for rule in rules)
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
        watched = self._watch(row)
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

    def _watch(self, row: Row | None) -> Watched | None:
        if row is None or self._references is None or not self.needs_row:
            return None
        try:
            return self._references.watch(row)
        except MALFORMED:
            self._lost.add("trigger-not-evaluated")
            return None
