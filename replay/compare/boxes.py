"""Boxes: where an answer holds them, and which recorded box is which replayed one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recorder.bundle.values import MappingValue, RecordValue, SequenceValue, TensorValue, Value, tensors_of
from replay.compare.instances import InstanceMasks, instance_masks
from replay.compare.layout import Array, real_tensor

if TYPE_CHECKING:
    from replay.compare.comparison import Answer

__all__ = [
    "LEAST_SCORE",
    "SAME_BOX_IOU",
    "SAME_OBJECT_IOU",
    "Boxes",
    "box_groups",
    "boxes_at",
    "boxes_of",
    "match_boxes",
]

#: Boxes with a lower score are no decision, where nothing says otherwise; the usual operating point of services.
LEAST_SCORE = 0.5

#: Two boxes of one class that overlap by this much are the same object (PASCAL VOC's criterion).
SAME_OBJECT_IOU = 0.5

#: Two boxes this much alike are the same box: at 100 pixels a side, half a pixel off in one direction.
SAME_BOX_IOU = 0.99


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of one image: corners (N, 4: x1 y1 x2 y2), scores (N), labels (N), all float64; perhaps a mask each."""

    corners: Array
    scores: Array
    labels: Array
    masks: InstanceMasks | None = None

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, kept: Array) -> Boxes:
        """Those of a mask (N) or of indices, in their order."""
        masks = None if self.masks is None else self.masks[kept]
        return Boxes(self.corners[kept], self.scores[kept], self.labels[kept], masks)

    def above(self, score: float) -> Boxes:
        """Those that are at least so sure."""
        return self[self.scores >= score]


def boxes_of(answer: Answer, row: int | None) -> Boxes | None:
    """The boxes of an answer, of the frame's item where it is a list with one entry an image; None: it has none."""
    groups = list(box_groups(answer.value, ""))
    if not groups:
        return None
    return boxes_at(answer, groups[row if row is not None and row < len(groups) else 0][1])


def boxes_at(answer: Answer, parts: Mapping[str, str]) -> Boxes | None:
    """The boxes of one group of `box_groups`, label 0 where it has none; None: not as many of each part."""
    tensors = dict(tensors_of(answer.value))
    arrays = {name: real_tensor(answer.tensors[path], tensors[path]) for name, path in parts.items()}
    corners, scores = arrays["boxes"], arrays["scores"]
    labels = arrays.get("labels", np.zeros(len(corners)))
    if not len(corners) == len(scores) == len(labels):
        return None
    before, _, after = parts["boxes"].rpartition("boxes")
    beside = f"{before}masks{after}"
    masks = instance_masks(answer.tensors[beside], tensors[beside], len(corners)) if beside in tensors else None
    return Boxes(corners, scores, labels, masks)


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


def match_boxes(a: Boxes, b: Boxes, least_iou: float = SAME_BOX_IOU) -> list[tuple[int, int]]:
    """Pair boxes of one class greedily, highest score of ``a`` first, each with its best overlap left.

    ``least_iou`` is the least intersection over union of a pair.
    """
    free = np.ones(len(b), dtype=bool)
    pairs = []
    for index in np.argsort(-a.scores, kind="stable"):
        candidates = np.flatnonzero(free & (b.labels == a.labels[index]))
        if not candidates.size:
            continue
        overlaps = _iou(a.corners[index], b.corners[candidates])
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
