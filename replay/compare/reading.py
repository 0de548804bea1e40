"""What an answer decides: a class, boxes or a mask, and how sure it is; and how much two decisions have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recorder.bundle.values import tensors_of
from replay.compare.boxes import LEAST_SCORE, SAME_OBJECT_IOU, Boxes, box_groups, boxes_of, match_boxes
from replay.compare.comparison import Answer
from replay.compare.layout import Array, real_tensor
from replay.compare.scores import class_map, classify

__all__ = ["Reading", "agreement", "read_answer", "reading_of_boxes", "same"]

#: At least this share of boxes (F1) or mask (mean IoU) has to agree for the decision to be called the same.
SAME_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One frame's decision."""

    task: str  #: "classification", "detection" or "segmentation"
    label: str  #: in a few words
    confidence: float | None  #: 0 to 1; of boxes the best score
    winner: int | None = None  #: the class, of classification
    probabilities: Array | None = None  #: (classes)
    found: Boxes | None = None  #: of detection, however sure
    mask: Array | None = None  #: (H, W), the class of each pixel
    sureness: Array | None = None  #: (H, W), the probability of that class

    @property
    def boxes(self) -> Boxes | None:
        """Those that are sure enough to be a decision."""
        return None if self.found is None else self.found.above(LEAST_SCORE)

    def sureness_of(self, other: Reading) -> float | None:
        """How sure this answer is of the other one's decision."""
        if self.probabilities is not None and other.winner is not None and other.winner < len(self.probabilities):
            return float(self.probabilities[other.winner])
        return agreement(other, self)


def read_answer(answer: Answer | None, row: int | None, task: str | None = None) -> Reading | None:
    """Read one frame's decision; None where the answer has none that is known here.

    Args:
        answer: of a model or a pipeline.
        row: the frame's item of a batch; None: the first.
        task: "classification", "detection" or "segmentation"; None: seen from the structure.
    """
    if answer is None or answer.value is None:
        return None
    item = row or 0
    if task in (None, "detection") and any(box_groups(answer.value, "")):
        boxes = boxes_of(answer, row)
        return None if boxes is None else reading_of_boxes(boxes)
    for path, tensor in tensors_of(answer.value):
        if "float" not in tensor.dtype or math.prod(tensor.shape) == 0:
            continue
        if len(tensor.shape) == 4 and task in (None, "segmentation"):
            return _mask(real_tensor(answer.tensors[path], tensor)[min(item, tensor.shape[0] - 1)])
        if len(tensor.shape) in (1, 2) and task in (None, "classification") and tensor.shape[-1] >= 1:
            rows = np.atleast_2d(real_tensor(answer.tensors[path], tensor))
            return _class(rows[min(item, len(rows) - 1)])
    return None


def agreement(a: Reading, b: Reading) -> float:
    """Share of a decision that two answers have in common, 0 to 1: equal class, F1 of the boxes, mean IoU of the masks.

    The mean IoU is over the classes that stand in either mask.
    """
    if a.winner is not None:
        return float(a.winner == b.winner)
    if a.mask is not None and b.mask is not None:
        if a.mask.shape != b.mask.shape:
            return 0.0
        classes = np.union1d(a.mask, b.mask)
        overlaps = [
            np.sum((a.mask == each) & (b.mask == each)) / np.sum((a.mask == each) | (b.mask == each))
            for each in classes
        ]
        return float(np.mean(overlaps))
    x, y = a.boxes, b.boxes
    if x is not None and y is not None:
        if not len(x) and not len(y):
            return 1.0
        return 2 * len(match_boxes(x, y, SAME_OBJECT_IOU)) / (len(x) + len(y))
    return 0.0


def same(a: Reading, b: Reading | None) -> bool:
    """Whether two answers decide alike."""
    return b is not None and agreement(a, b) >= (1.0 if a.winner is not None else SAME_SHARE)


def _class(row: Array) -> Reading | None:
    if not np.any(np.isfinite(row)):
        return None
    if len(row) == 1:
        p = float(row[0]) if 0 <= row[0] <= 1 else float(1 / (1 + np.exp(-np.clip(row[0], -500, 500))))
        row = np.asarray([1 - p, p])
    top, sure = classify(row[None])
    winner, confidence = int(top[0]), float(sure[0])
    finite = np.where(np.isfinite(row), row, -np.inf)
    if np.all(row >= 0) and abs(float(row.sum()) - 1) < 1e-3:
        probabilities = row
    else:
        probabilities = np.exp(finite - finite.max())
        probabilities = probabilities / probabilities.sum()
    return Reading(
        task="classification",
        label=f"class {winner}",
        confidence=None if math.isnan(confidence) else confidence,
        winner=winner,
        probabilities=probabilities,
    )


def _mask(scores: Array) -> Reading:
    mask = class_map(scores, scores).astype(np.int64)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if scores.shape[0] == 1:
        inside = bool(np.all((scores >= 0) & (scores <= 1)))
        p = scores[0] if inside else 1 / (1 + np.exp(-np.clip(scores[0], -500, 500)))
        sure = np.maximum(p, 1 - p)
    else:
        with np.errstate(all="ignore"):  # of infinite scores nothing is known
            peak = np.exp(scores - scores.max(axis=0, keepdims=True))
            sure = peak.max(axis=0) / peak.sum(axis=0)
    classes, counts = np.unique(mask, return_counts=True)
    parts = sorted(zip(counts.tolist(), classes.tolist(), strict=True), reverse=True)[:3]
    label = ", ".join(f"class {each} {count / mask.size:.0%}" for count, each in parts)
    return Reading(task="segmentation", label=label, confidence=_known(sure.mean()), mask=mask, sureness=sure)


def _known(confidence: float) -> float | None:
    """Of scores that are not finite nothing is known."""
    return float(confidence) if math.isfinite(confidence) else None


def reading_of_boxes(found: Boxes) -> Reading:
    """The decision that boxes are, with all of them."""
    count = len(found.above(LEAST_SCORE))
    best = _known(found.scores.max()) if len(found) else None
    return Reading(task="detection", label=f"{count} box{'' if count == 1 else 'es'}", confidence=best, found=found)
