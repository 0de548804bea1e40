"""Cheap statistics of outputs, as pure functions: the sealer triggers on them, replay evaluates them again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.tensors import to_array
from recorder.bundle.values import (
    JsonValue,
    MappingValue,
    RecordValue,
    ScalarValue,
    SequenceValue,
    TensorValue,
    Value,
    tensors_of,
)

__all__ = ["AnswerSummary", "confidence", "count_non_finite", "reevaluate", "summarize_answer", "top_class"]

#: Rows of probabilities may miss a sum of 1 by this much and still be probabilities: fp16 softmax over 1,000 classes
#: stays within 5e-3.
PROBABILITY_SUM_TOLERANCE = 1e-2

_LABEL_KEYS = ("labels", "classes", "class_ids")
_SCORE_KEYS = ("scores", "confidence", "conf", "score", "probabilities", "probs", "logits")


def count_non_finite(value: Value, tensors: Mapping[str, bytes]) -> int:
    """Count NaN and infinite elements of all floating-point tensors and float scalars of a value.

    Args:
        value: the structure.
        tensors: the tensors' bytes by path, as ``tensors_of`` names them; a missing path counts as finite.
    """
    count = 0
    for path, tensor in tensors_of(value):
        if path in tensors and tensor.dtype.startswith(("float", "bfloat", "complex")):
            array = _elements(tensors[path], tensor)
            count += int(array.size - np.count_nonzero(np.isfinite(array)))
    return count + sum(1 for number in _floats(value) if not np.isfinite(number))


def confidence(
    value: Value, tensors: Mapping[str, bytes], key: str | int | None = None, row: int | None = None
) -> float | None:
    """How sure the answer is, between 0 and 1; None where the answer has no such notion.

    Classification (the last dimension holds two or more classes): the largest probability, softmax of logits where
    the rows are not probabilities already; the least sure row of a batch. One number per row: the larger of p and
    1 - p, the sigmoid where it lies outside [0, 1]. Detections (a ``scores`` entry): the best score; None when nothing
    was found.

    Args:
        value: the structure of the answer.
        tensors: the tensors' bytes by path.
        key: the entry to look at: a dictionary key, field name or index. Without it: the first entry named scores,
            confidence, score, probabilities or logits, else the first floating-point tensor.
        row: the item of a batch to judge, where the tensor has one row per item; without it the least sure one.
    """
    found = _entry(value, "", key) if key is not None else _likely_entry(value)
    if found is None:
        return None
    path, part, name = found
    if isinstance(part, ScalarValue) and isinstance(part.value, int | float) and not isinstance(part.value, bool):
        return _of_numbers(np.asarray([part.value], dtype=np.float64), name)
    for inner, tensor in tensors_of(part, path):
        if inner in tensors and tensor.dtype.startswith(("float", "bfloat")):
            array = _elements(tensors[inner], tensor).astype(np.float64)
            numbers = _logical(array, tensor)
            if row is not None and numbers.ndim > 1 and row < numbers.shape[0]:
                numbers = numbers[row]
            return _of_numbers(numbers, name)
    return None


def top_class(
    value: Value, tensors: Mapping[str, bytes], key: str | int | None = None, row: int | None = None
) -> str | None:
    """Name the class the answer is surest of; None where it has no such notion.

    Classification: the index of the largest probability or logit, as text; of one number per row "0" or "1".
    Detections (a ``scores`` entry beside ``labels`` or ``classes``): the label of the best score, "nothing" when
    nothing was found. Tensors with more than two dimensions (maps of classes) have none. Arguments as for
    `confidence`; without ``row`` the first item of a batch counts.
    """
    found = _entry(value, "", key) if key is not None else _likely_entry(value)
    if found is None:
        return None
    path, part, name = found
    for inner, tensor in tensors_of(part, path):
        if inner not in tensors or not tensor.dtype.startswith(("float", "bfloat")):
            continue
        numbers = _logical(_elements(tensors[inner], tensor).astype(np.float64), tensor)
        if name == "scores":
            return _best_label(value, path, tensors, numbers)
        if numbers.ndim != len(tensor.shape) or numbers.ndim > 2 or numbers.ndim == 0:
            return None
        if numbers.ndim == 2 and numbers.shape[0]:
            numbers = numbers[row if row is not None and row < numbers.shape[0] else 0]
        if numbers.size == 0 or not np.all(np.isfinite(numbers)):
            return None
        if numbers.size == 1:
            return str(int(numbers[0] > (0.5 if 0 <= numbers[0] <= 1 else 0.0)))
        return str(int(numbers.argmax()))
    return None


def reevaluate(
    kind: str, parameters: Mapping[str, JsonValue], value: Value, tensors: Mapping[str, bytes]
) -> bool | None:
    """Evaluate a recorded trigger on another answer; None where a single answer cannot decide it."""
    if kind == "non_finite" and parameters.get("part", "output") == "output":
        return count_non_finite(value, tensors) > 0
    if kind == "low_confidence" and parameters.get("source", "model") == "model":
        key, below, row = parameters.get("key"), parameters.get("below"), parameters.get("row")
        if not isinstance(below, int | float) or not isinstance(key, str | int | None):
            return None
        measured = confidence(value, tensors, key, row if isinstance(row, int) else None)
        return None if measured is None else measured < below
    return None


def _best_label(value: Value, path: str, tensors: Mapping[str, bytes], scores: NDArray[np.float64]) -> str | None:
    if scores.size == 0:
        return "nothing"
    best = int(scores.argmax())
    prefix = path.rpartition("[")[0] if path.endswith("]") else path.rpartition(".")[0]
    names = {f"{prefix}[{key!r}]" for key in _LABEL_KEYS} | {f"{prefix}.{key}" for key in _LABEL_KEYS}
    for inner, tensor in tensors_of(value):
        if inner in names and inner in tensors and tensor.dtype.startswith(("int", "uint")):
            labels = _elements(tensors[inner], tensor)
            return str(int(labels[best])) if best < labels.size else None
    return None


def _elements(data: bytes, tensor: TensorValue) -> NDArray[Any]:
    """All elements in the order of the bytes; none of an empty tensor, whose shape no -1 could stand for."""
    return to_array(data, tensor.dtype, (-1,) if data else (0,))


def _of_numbers(numbers: NDArray[np.float64], name: str) -> float | None:
    if numbers.size == 0 or not np.all(np.isfinite(numbers)):
        return None
    if name == "scores":
        return float(numbers.max())
    if numbers.size == 1 or numbers.shape[-1] == 1:
        inside = bool(np.all((numbers >= 0) & (numbers <= 1)))
        p = numbers if inside else 1 / (1 + np.exp(-np.clip(numbers, -500, 500)))
        return float((p if name in ("confidence", "conf", "score") else np.maximum(p, 1 - p)).min())
    rows = numbers.reshape(-1, numbers.shape[-1])
    if not _are_probabilities(rows):
        rows = np.exp(rows - rows.max(axis=1, keepdims=True))
        rows /= rows.sum(axis=1, keepdims=True)
    return float(rows.max(axis=1).min())


def _are_probabilities(rows: NDArray[np.float64]) -> bool:
    if rows.min() < 0 or rows.max() > 1 + PROBABILITY_SUM_TOLERANCE:
        return False
    return bool(np.all(np.abs(rows.sum(axis=1) - 1) <= PROBABILITY_SUM_TOLERANCE))


def _logical(array: NDArray[np.float64], tensor: TensorValue) -> NDArray[np.float64]:
    """The elements by index where they lie in C order; elsewhere only their multiset is right, and shape is dropped."""
    contiguous, expected = True, 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        contiguous &= size == 1 or stride == expected
        expected *= size
    return array.reshape(tensor.shape) if contiguous or array.size != expected else array


def _entry(value: Value, path: str, key: str | int) -> tuple[str, Value, str] | None:
    match value:
        case MappingValue(items=items):
            for name, item in items:
                if name == key or str(name) == str(key):
                    return f"{path}[{name!r}]", item, str(name)
        case RecordValue(fields=fields):
            for name, item in fields:
                if name == key:
                    return f"{path}.{name}", item, name
        case SequenceValue(items=items) if isinstance(key, int) and -len(items) <= key < len(items):
            index = key % len(items)
            return f"{path}[{index}]", items[index], str(index)
    return None


def _likely_entry(value: Value) -> tuple[str, Value, str] | None:
    for key in _SCORE_KEYS:
        found = _entry(value, "", key)
        if found is not None:
            return found
    if isinstance(value, SequenceValue) and value.items and isinstance(value.items[0], MappingValue | RecordValue):
        for key in _SCORE_KEYS:
            found = _entry(value.items[0], "[0]", key)
            if found is not None:
                return found
    for path, tensor in tensors_of(value):
        if tensor.dtype.startswith(("float", "bfloat")):
            return path, tensor, ""
    return None


def _floats(value: Any) -> list[float]:
    match value:
        case ScalarValue(value=float() as number):
            return [number]
        case SequenceValue(items=items):
            return [number for item in items for number in _floats(item)]
        case MappingValue(items=pairs) | RecordValue(fields=pairs):
            return [number for _, item in pairs for number in _floats(item)]
    return []


@dataclass(frozen=True, slots=True)
class AnswerSummary:
    """An answer in a few numbers; NaN and None where it has no such thing."""

    confidence: float = math.nan  #: as `confidence` defines it
    entropy: float = math.nan  #: of the class probabilities, in nats; of a batch, the row that is least sure
    margin: float = math.nan  #: between the two largest probabilities of that row
    detections: float = math.nan  #: how many scores a detector gave
    top_class: int | None = None  #: index of the largest probability of that row, or label of the best detection


def summarize_answer(value: Value, tensors: Mapping[str, bytes], row: int | None = None) -> AnswerSummary:
    """Say an answer in a few numbers, whatever of it can be said.

    Args:
        value: the structure of the answer.
        tensors: the tensors' bytes by path.
        row: the item of a batch to look at; without it the least sure one.
    """
    sure = confidence(value, tensors, None, row)
    found = _likely_entry(value)
    if found is None:
        return AnswerSummary()
    path, part, name = found
    numbers = None
    for inner, tensor in tensors_of(part, path):
        if inner in tensors and tensor.dtype.startswith(("float", "bfloat")):
            numbers = _logical(to_array(tensors[inner], tensor.dtype, (-1,)).astype(np.float64), tensor)
            break
    measured = math.nan if sure is None else sure
    if numbers is None:
        return AnswerSummary(confidence=measured)
    if name == "scores":
        label = _best_label(value, path, tensors, numbers)
        named = int(label) if label is not None and label.lstrip("-").isdigit() else None
        return AnswerSummary(confidence=measured, detections=float(numbers.size), top_class=named)
    if row is not None and numbers.ndim > 1 and row < numbers.shape[0]:
        numbers = numbers[row]
    # More dimensions than a batch of class scores: a map of pixels, whose classes lie along another axis.
    if numbers.ndim not in (1, 2) or numbers.shape[-1] < 2 or not np.all(np.isfinite(numbers)):
        return AnswerSummary(confidence=measured)
    rows = numbers.reshape(-1, numbers.shape[-1])
    if not _are_probabilities(rows):
        rows = np.exp(rows - rows.max(axis=1, keepdims=True))
        rows /= rows.sum(axis=1, keepdims=True)
    least = rows[int(rows.max(axis=1).argmin())]
    second, first = np.partition(least, -2)[-2:]
    entropy = -float(np.sum(least * np.log(np.maximum(least, 1e-300))))
    return AnswerSummary(measured, max(0.0, entropy), float(first - second), top_class=int(least.argmax()))
