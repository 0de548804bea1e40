"""Is it the same decision? One comparator a task, for answers whose numbers differ beyond tolerance.

Which task an answer serves is read from its structure unless the caller says:

* *detection*: a dictionary or record with ``boxes`` (N, 4: x1 y1 x2 y2), ``scores`` (N) and perhaps ``labels`` (N);
* *segmentation*: a floating-point tensor of shape (N, C, H, W);
* *embedding*: a 2-D floating-point tensor with rows of unit length and negative entries;
* *text*: a string; with the task named also floating-point (N, T, V) scores of tokens;
* *classification*: any other 2-D floating-point tensor (batch, classes), logits or probabilities.

Anything else has no decision to compare, and a difference beyond tolerance is a divergence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recorder.bundle.values import JsonValue, TensorValue, tensors_of
from replay.compare.boxes import box_groups, boxes_at, match_boxes
from replay.compare.layout import Array, logical_bits, real_tensor, real_values
from replay.compare.scores import class_map, classify
from replay.compare.text import changed_characters, greedy_tokens, same_text, strings_of

if TYPE_CHECKING:
    from replay.compare.comparison import Answer

__all__ = ["Decision", "TASKS", "decide"]

TASKS = ("classification", "detection", "segmentation", "embedding", "text", "none")

#: Share of pixels that keep their class. Pixels on the border between two regions are near-ties; in a 500 x 500 mask
#: this lets 250 of them flip and no region come or go.
SAME_MASK_SHARE = 0.999

#: Nearest-neighbour order is unaffected by an angle of 0.8 degrees in any index that is worth its name.
SAME_DIRECTION_COSINE = 0.9999

#: Rows shown in the evidence.
_SHOWN = 8

#: Characters of a text shown in the evidence.
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a task's comparator found for one part of an answer."""

    path: str  #: of the tensor it rests on
    task: str
    same: bool
    what: str  #: half a sentence
    recorded: JsonValue = None
    replayed: JsonValue = None
    margin_over_delta: float | None = None  #: distance to the decision's border over what moved; below 2 a near-tie


def decide(
    recorded: Answer,
    replayed: Answer,
    paths: Sequence[str],
    *,
    task: str | None = None,
    thresholds: Sequence[float] = (),
) -> Decision | None:
    """Compare the decisions that rest on the tensors at ``paths``, all with equal shapes on both sides.

    Returns the first decision that is not the same, else the one with the smallest margin; None when one of the
    tensors has no comparator.

    Raises:
        ValueError: the task is unknown.
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"unknown task {task!r}: choose from {', '.join(TASKS)}")
    if task == "none":
        return None
    decisions = []
    detections = {part: where for where, parts in box_groups(recorded.value, "") for part in parts.values()}
    tensors_a, tensors_b = dict(tensors_of(recorded.value)), dict(tensors_of(replayed.value))
    texts_a, texts_b = dict(strings_of(recorded.value)), dict(strings_of(replayed.value))
    for path in paths:
        if path in texts_a and path in texts_b and task in (None, "text"):
            decisions.append(_text(path, texts_a[path], texts_b[path]))
            continue
        if path not in tensors_a:
            return None
        decision = None
        if path in detections and task in (None, "detection"):
            decision = _detection(recorded, replayed, path, detections[path], thresholds)
        elif task != "detection":
            a = _Tensor(tensors_a[path], recorded.tensors[path])
            b = _Tensor(tensors_b[path], replayed.tensors[path])
            decision = _decide_tensor(path, a, b, task, thresholds)
        if decision is None:
            return None
        decisions.append(decision)
    margin = lambda decision: math.inf if decision.margin_over_delta is None else decision.margin_over_delta  # noqa: E731
    return next((each for each in decisions if not each.same), min(decisions, key=margin, default=None))


@dataclass(frozen=True, slots=True)
class _Tensor:
    value: TensorValue
    data: bytes

    @property
    def floating(self) -> bool:
        return "float" in self.value.dtype

    def array(self) -> Array:
        """The logical array in float64 (segmentation takes one image at a time instead)."""
        return real_tensor(self.data, self.value)

    def bits(self) -> Array:
        return logical_bits(self.data, self.value.dtype, self.value.shape, self.value.strides)


def _decide_tensor(path: str, a: _Tensor, b: _Tensor, task: str | None, thresholds: Sequence[float]) -> Decision | None:
    shape = a.value.shape
    if not (a.floating and b.floating) or math.prod(shape) == 0:
        return None
    if len(shape) == 4 and task in (None, "segmentation"):
        return _segmentation(path, a, b)
    if task == "text" and len(shape) == 3:
        return _tokens(path, a.array(), b.array())
    if len(shape) != 2 or task == "text":
        return None
    x, y = a.array(), b.array()
    if task == "embedding" or (task is None and _looks_like_embeddings(x)):
        return _embedding(path, x, y)
    if task in (None, "classification") and shape[1] >= 2:
        return _classification(path, x, y, thresholds)
    return None


def _looks_like_embeddings(rows: Array) -> bool:
    """Normalised embeddings have unit length and, unlike probabilities, negative entries."""
    if not np.all(np.abs(rows) <= 1.001) or not np.any(rows < 0):
        return False
    return bool(np.all(np.abs(np.linalg.norm(rows, axis=1) - 1.0) < 1e-3))


def _classification(path: str, a: Array, b: Array, thresholds: Sequence[float]) -> Decision:
    (top_a, sure_a), (top_b, sure_b) = classify(a), classify(b)
    changed = (top_a != top_b) | np.any(np.isnan(a) != np.isnan(b), axis=1)
    what = "the top class stayed" if not np.any(changed) else "the top class changed"
    for threshold in thresholds:
        crossed = (sure_a >= threshold) != (sure_b >= threshold)
        if np.any(crossed) and not np.any(changed):
            what = f"the confidence crossed {threshold:g}"
        changed |= crossed
    row = int(np.argmax(changed))
    shown = slice(row, row + 1) if np.any(changed) else slice(0, _SHOWN)
    return Decision(
        path=path,
        task="classification",
        same=not np.any(changed),
        what=what if len(a) == 1 or not np.any(changed) else f"{what} in row {row}",
        recorded={"top1": top_a[shown].tolist(), "confidence": _rounded(sure_a[shown])},
        replayed={"top1": top_b[shown].tolist(), "confidence": _rounded(sure_b[shown])},
        margin_over_delta=_classification_margin(a, b, sure_a, sure_b, thresholds),
    )


def _classification_margin(
    a: Array, b: Array, sure_a: Array, sure_b: Array, thresholds: Sequence[float]
) -> float | None:
    """Smallest distance to a border over what moved: the runner-up's over max|difference| and each threshold's."""
    top_two = -np.partition(-np.where(np.isfinite(a), a, -np.inf), 1, axis=1)[:, :2]
    with np.errstate(all="ignore"):
        moved = np.max(np.abs(np.where(np.isfinite(a) & np.isfinite(b), a - b, 0.0)), axis=1)
        ratios = [(top_two[:, 0] - top_two[:, 1])[moved > 0] / moved[moved > 0]]
        shift = np.abs(sure_a - sure_b)
        ratios += [np.abs(sure_a - each)[shift > 0] / shift[shift > 0] for each in thresholds]
    finite = np.concatenate(ratios)
    finite = finite[np.isfinite(finite)]
    return float(np.min(finite)) if finite.size else None


def _segmentation(path: str, a: _Tensor, b: _Tensor) -> Decision:
    shares, bits_a, bits_b = [], a.bits(), b.bits()
    for index in range(a.value.shape[0]):
        x, y = real_values(bits_a[index], a.value.dtype), real_values(bits_b[index], b.value.dtype)
        shares.append(float(np.mean(class_map(x, x) == class_map(y, x))))
    worst = min(shares)
    return Decision(
        path=path,
        task="segmentation",
        same=worst >= SAME_MASK_SHARE,
        what=f"{worst:.4%} of the mask's pixels agree",
        replayed={"mask_agreement": worst},
    )


def _embedding(path: str, a: Array, b: Array) -> Decision:
    cosines = np.array([_cosine(x, y) for x, y in zip(a, b, strict=True)])
    row = int(np.argmin(cosines))
    return Decision(
        path=path,
        task="embedding",
        same=bool(cosines[row] >= SAME_DIRECTION_COSINE),
        what=f"the smallest cosine is {cosines[row]:.6f}" + ("" if len(a) == 1 else f" in row {row}"),
        replayed={"cosine": float(cosines[row])},
    )


def _text(path: str, a: str, b: str) -> Decision:
    same = same_text(a, b)
    count = changed_characters(a, b)
    what = "the text reads the same" if same else f"about {count} of {len(a)} characters of the text changed"
    return Decision(path=path, task="text", same=same, what=what, recorded=_cut(a), replayed=_cut(b))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _tokens(path: str, a: Array, b: Array) -> Decision:
    """Scores of tokens: the text a greedy decoder reads."""
    changed = greedy_tokens(a) != greedy_tokens(b)
    count = int(np.count_nonzero(changed))
    rows_a, rows_b = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    margin = _classification_margin(rows_a, rows_b, np.zeros(len(rows_a)), np.zeros(len(rows_a)), ())
    return Decision(
        path=path,
        task="text",
        same=count == 0,
        what=f"{count} of {changed.size} tokens changed" if count else "every token stayed",
        margin_over_delta=margin if a.shape[-1] >= 2 else None,
    )


def _cosine(a: Array, b: Array) -> float:
    """Cosine of two vectors; 1 for two zero vectors, -1 where only one has a direction or one is not finite."""
    if not (np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
        return 1.0 if np.array_equal(a, b, equal_nan=True) else -1.0
    scale_a, scale_b = float(np.max(np.abs(a))), float(np.max(np.abs(b)))
    if scale_a == 0.0 or scale_b == 0.0:
        return 1.0 if scale_a == scale_b else -1.0
    x, y = a / scale_a, b / scale_b
    return float(np.clip(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))


def _detection(
    recorded: Answer, replayed: Answer, path: str, where: str, thresholds: Sequence[float]
) -> Decision | None:
    sides = []
    for answer in (recorded, replayed):
        parts = dict(box_groups(answer.value, "")).get(where)
        if parts is None:
            return None
        boxes = boxes_at(answer, parts)
        if boxes is None:
            return None
        sides.append(boxes)
    a, b = sides
    pairs = match_boxes(a, b)
    same = len(pairs) == len(a) == len(b)
    what = f"{len(pairs)} of {len(a)} boxes came back"
    shifts = np.array([abs(a.scores[i] - b.scores[j]) for i, j in pairs])
    margins = []
    for threshold in thresholds:
        if any((a.scores[i] >= threshold) != (b.scores[j] >= threshold) for i, j in pairs):
            same, what = False, f"a box crossed the score {threshold:g}"
        margins += [
            abs(a.scores[i] - threshold) / shift for (i, _), shift in zip(pairs, shifts, strict=True) if shift > 0
        ]
    return Decision(
        path=path,
        task="detection",
        same=same,
        what=what,
        recorded={"boxes": len(a)},
        replayed={"boxes": len(b), "matched": len(pairs)},
        margin_over_delta=float(min(margins)) if margins and math.isfinite(min(margins)) else None,
    )


def _rounded(values: Array) -> list[JsonValue]:
    return [None if math.isnan(value) else round(float(value), 6) for value in values]
