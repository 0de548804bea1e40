"""Boxes: where an answer holds them, and which recorded box is which replayed one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from recorder.bundle.values import MappingValue, RecordValue, SequenceValue, TensorValue, Value
from replay.compare.layout import Array

__all__ = ["SAME_BOX_IOU", "box_groups", "match_boxes"]

#: Two boxes this much alike are the same box: at 100 pixels a side, half a pixel off in one direction.
SAME_BOX_IOU = 0.99


def box_groups(value: Value | None, path: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``(path, {"boxes": path, "scores": path, "labels": path})`` for every group of boxes in a value."""
    members: list[tuple[Any, Value, str]] = []
    match value:
        case SequenceValue(items=items):
            members = [(index, item, f"{path}[{index}]") for index, item in enumerate(items)]
        case MappingValue(items=pairs):
            members = [(key, item, f"{path}[{key!r}]") for key, item in pairs]
        case RecordValue(fields=fields):
            members = [(name, item, f"{path}.{name}") for name, item in fields]
    parts = {key: where for key, item, where in members if _is_part(key, item)}
    if "boxes" in parts and "scores" in parts:
        yield path, parts
    for _, item, where in members:
        yield from box_groups(item, where)


def _is_part(key: object, item: Value) -> bool:
    if not isinstance(item, TensorValue) or "complex" in item.dtype:
        return False
    return (key == "boxes" and len(item.shape) == 2 and item.shape[1] == 4) or (
        key in ("scores", "labels") and len(item.shape) == 1
    )


def match_boxes(
    boxes_a: Array,
    scores_a: Array,
    labels_a: Array,
    boxes_b: Array,
    labels_b: Array,
    least_iou: float = SAME_BOX_IOU,
) -> list[tuple[int, int]]:
    """Pair boxes of one class greedily, highest recorded score first, each with its best overlap left.

    ``least_iou`` is the least intersection over union of a pair.
    """
    free = np.ones(len(boxes_b), dtype=bool)
    pairs = []
    for index in np.argsort(-scores_a, kind="stable"):
        candidates = np.flatnonzero(free & (labels_b == labels_a[index]))
        if not candidates.size:
            continue
        overlaps = _iou(boxes_a[index], boxes_b[candidates])
        best = int(np.argmax(overlaps))
        if overlaps[best] >= least_iou:
            free[candidates[best]] = False
            pairs.append((int(index), int(candidates[best])))
    return pairs


def _iou(box: Array, others: Array) -> Array:
    """Intersection over union of one box (4) with others (M, 4); 1 for equal boxes, those without area included."""
    with np.errstate(all="ignore"):
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        shared = np.prod(np.clip(sides, 0.0, None), axis=1)
        areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
        overlap = shared / (areas - shared)
    equal = np.all((others == box) | (np.isnan(others) & np.isnan(box)), axis=1)
    result: Array = np.where(equal, 1.0, np.where(np.isfinite(overlap), overlap, 0.0))
    return result
