"""What an answer decides, in the form that probes compare: a class, boxes or a mask, and how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recorder.bundle.values import TensorValue, tensors_of
from replay.compare.boxes import box_groups, match_boxes
from replay.compare.comparison import Answer
from replay.compare.decision import classify
from replay.compare.layout import Array, logical_bits, real_values

__all__ = ["Reading", "agreement", "read_answer", "same"]

#: Boxes with a lower score are no decision; the usual operating point of detectors' demos.
SCORE_AT_LEAST = 0.5

#: Two boxes of one class that overlap by this much are the same object (PASCAL VOC's criterion).
_SAME_OBJECT_IOU = 0.5

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
    boxes: Array | None = None  #: (N, 4)
    scores: Array | None = None  #: (N)
    labels: Array | None = None  #: (N)
    mask: Array | None = None  #: (H, W), the class of each pixel

    def sureness_of(self, other: Reading) -> float | None:
        """How sure this answer is of the other one's decision."""
        if self.probabilities is not None and other.winner is not None and other.winner < len(self.probabilities):
            return float(self.probabilities[other.winner])
        return agreement(other, self)


def read_answer(answer: Answer | None, row: int | None, task: str | None = None) -> Reading | None:
    """Read one frame's decision; None where the answer has none that probes know.

    Args:
        answer: of a model or a pipeline.
        row: the frame's item of a batch; None: the first.
        task: "classification", "detection" or "segmentation"; None: seen from the structure.
    """
    if answer is None or answer.value is None:
        return None
    item = row or 0
    groups = list(box_groups(answer.value, ""))
    if groups and task in (None, "detection"):
        return _boxes(answer, groups[item if item < len(groups) else 0][1])
    for path, tensor in tensors_of(answer.value):
        if "float" not in tensor.dtype or math.prod(tensor.shape) == 0:
            continue
        if len(tensor.shape) == 4 and task in (None, "segmentation"):
            return _mask(_array(answer, path, tensor)[min(item, tensor.shape[0] - 1)])
        if len(tensor.shape) in (1, 2) and task in (None, "classification") and tensor.shape[-1] >= 1:
            rows = np.atleast_2d(_array(answer, path, tensor))
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
    if a.boxes is not None and b.boxes is not None:
        if not len(a.boxes) and not len(b.boxes):
            return 1.0
        assert a.scores is not None and a.labels is not None and b.labels is not None  # noqa: S101 - they go together
        pairs = match_boxes(a.boxes, a.scores, a.labels, b.boxes, b.labels, _SAME_OBJECT_IOU)
        return 2 * len(pairs) / (len(a.boxes) + len(b.boxes))
    return 0.0


def same(a: Reading, b: Reading | None) -> bool:
    """Whether two answers decide alike."""
    return b is not None and agreement(a, b) >= (1.0 if a.winner is not None else SAME_SHARE)


def _array(answer: Answer, path: str, tensor: TensorValue) -> Array:
    return real_values(logical_bits(answer.tensors[path], tensor.dtype, tensor.shape, tensor.strides), tensor.dtype)


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
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if scores.shape[0] == 1:
        inside = bool(np.all((scores >= 0) & (scores <= 1)))
        p = scores[0] if inside else 1 / (1 + np.exp(-np.clip(scores[0], -500, 500)))
        mask, sure = (p >= 0.5).astype(np.int64), np.maximum(p, 1 - p)
    else:
        mask = scores.argmax(axis=0)
        peak = np.exp(scores - scores.max(axis=0, keepdims=True))
        sure = peak.max(axis=0) / peak.sum(axis=0)
    classes, counts = np.unique(mask, return_counts=True)
    parts = sorted(zip(counts.tolist(), classes.tolist(), strict=True), reverse=True)[:3]
    label = ", ".join(f"class {each} {count / mask.size:.0%}" for count, each in parts)
    return Reading(task="segmentation", label=label, confidence=float(sure.mean()), mask=mask)


def _boxes(answer: Answer, parts: dict[str, str]) -> Reading | None:
    tensors = dict(tensors_of(answer.value))
    arrays = {name: _array(answer, where, tensors[where]) for name, where in parts.items()}
    boxes, scores = arrays["boxes"], arrays["scores"]
    labels = arrays.get("labels", np.zeros(len(boxes)))
    if not len(boxes) == len(scores) == len(labels):
        return None
    kept = scores >= SCORE_AT_LEAST
    best = float(scores.max()) if scores.size else None
    label = f"{int(kept.sum())} box{'' if kept.sum() == 1 else 'es'}"
    return Reading(
        task="detection", label=label, confidence=best, boxes=boxes[kept], scores=scores[kept], labels=labels[kept]
    )
