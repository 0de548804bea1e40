"""One class a trigger: what it remembers of each stream, and when it fires.

An evaluator is made from the parameters of a `recorder.triggers.Trigger` and sees every frame once, when it has ended.
How to add one: docs/triggers.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recorder.sealer.evaluators.departure import Departed
from recorder.sealer.evaluators.evaluator import Evaluator
from recorder.sealer.evaluators.exception import ExceptionRaised
from recorder.sealer.evaluators.frozen_input import FrozenInput
from recorder.sealer.evaluators.latency import Latency
from recorder.sealer.evaluators.low_confidence import LowConfidence
from recorder.sealer.evaluators.non_finite import NonFinite
from recorder.sealer.evaluators.output_shift import OutputShift
from recorder.sealer.evaluators.sample import Sample

__all__ = ["COMPARING", "EVALUATORS", "Evaluator"]

#: Kinds that compare a stream with its reference.
COMPARING = frozenset({"drift", "image_quality", "output_shift"})

EVALUATORS: dict[str, Callable[[Mapping[str, Any]], Evaluator]] = {
    "drift": lambda parameters: Departed("drift", parameters),
    "image_quality": lambda parameters: Departed("image_quality", parameters),
    "exception": ExceptionRaised,
    "frozen_input": FrozenInput,
    "latency": Latency,
    "low_confidence": LowConfidence,
    "non_finite": NonFinite,
    "output_shift": OutputShift,
    "sample": Sample,
}
