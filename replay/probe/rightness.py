"""Whether an answer is right: by the truth, by what the trigger asks, else by what is usual on clean frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recorder.bundle.manifest import Frame, Manifest
from replay.class_names import ClassNames, is_class
from replay.compare.layout import Array
from replay.compare.reading import Reading, same

__all__ = ["Measure", "Seen"]

#: An answer has recovered, or failed, when its confidence went half the way between clean frames' and bad ones'.
_HALF_WAY = 0.5
#: Between clean and bad frames' confidences; a smaller difference is no failure that could be undone.
_LEAST_GAP = 0.05


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame, what the subject sees of it, and what it answers."""

    frame: Frame
    pixels: Array
    reading: Reading | None


class Measure:
    """Says whether an answer is right: by truth, by the trigger's threshold, else by confidence between the groups."""

    def __init__(
        self, manifest: Manifest, truth: str, names: ClassNames, clean: Sequence[Seen], bad: Sequence[Seen]
    ) -> None:
        self._truth, self._names = truth, names
        trigger = manifest.incident.triggers[0] if manifest.incident.triggers else None
        self.threshold: float | None = None
        self.by = ""
        if any(self._known(each.frame, each.reading) is not None for each in bad):
            self.by = f"the truth in metadata {truth[:40]!r}"
        elif (
            trigger is not None
            and trigger.kind == "low_confidence"
            and isinstance(trigger.parameters.get("below"), float)
        ):
            self.threshold = float(str(trigger.parameters["below"]))
            self.by = f"confidence from {self.threshold:g}, as the trigger asks"
        else:
            high, low = _median(clean), _median(bad)
            if high is not None and low is not None and high - low >= _LEAST_GAP:
                self.threshold = low + _HALF_WAY * (high - low)
                self.by = f"confidence from {self.threshold:.2f}, half way to the clean frames' {high:.2f}"

    def _known(self, frame: Frame, reading: Reading | None) -> bool | None:
        """Whether an answer is the truth of the metadata; None where it cannot be held against it."""
        truth = frame.metadata.get(self._truth)
        if not is_class(truth) or reading is None or reading.winner is None:
            return None
        return self._names.says({str(reading.winner)}, truth)

    def right(self, frame: Frame, reading: Reading | None, original: Reading | None = None) -> bool | None:
        """None: nothing says so. ``original`` is what the same frame answers when nothing is changed."""
        known = self._known(frame, reading)
        if known is not None:
            return known
        if original is not None and not same(original, reading):
            return False
        if self.threshold is None:
            return None if original is None else True
        return reading is not None and (reading.confidence or 0.0) >= self.threshold


def _median(seen: Sequence[Seen]) -> float | None:
    sure = [
        each.reading.confidence for each in seen if each.reading is not None and each.reading.confidence is not None
    ]
    return float(np.median(sure)) if sure else None
