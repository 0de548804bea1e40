"""The boxes that a case expects, in a file beside its bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from replay.compare.boxes import LEAST_SCORE, SAME_OBJECT_IOU, Boxes
from replay.suite.document import ordinary_file

__all__ = ["boxes_file", "boxes_in", "read_boxes"]

_MAX_BYTES = 2**20
_MAX_BOXES = 1000


def read_boxes(path: Path) -> tuple[Boxes, float, float]:
    """Read ``{"boxes": [[x1, y1, x2, y2], …], "labels": […], "iou": 0.5, "min_score": 0.5}``; all but boxes optional.

    Returns:
        The boxes, the overlap that counts as found, and the score below which an answer's boxes are not looked at.

    Raises:
        ValueError: it is no such file; one sentence.
    """
    return boxes_in(path.name, boxes_file(path))


def boxes_file(path: Path) -> bytes:
    """Read the file, which has to be an ordinary one and small.

    Raises:
        ValueError: it is not; one sentence.
    """
    try:
        if not ordinary_file(path):
            raise ValueError("it is no ordinary file" if path.is_symlink() or path.exists() else "it is not there")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    except (OSError, ValueError) as error:
        raise _refused(path.name, error) from error
    return content


def boxes_in(name: str, content: bytes) -> tuple[Boxes, float, float]:
    """Do as `read_boxes` does, with the content of a file of that name."""
    try:
        data: Any = json.loads(content)
        corners = np.asarray(data["boxes"], dtype=np.float64)
        corners = corners.reshape(0, 4) if not corners.size else corners
        if corners.ndim != 2 or corners.shape[1] != 4:
            raise ValueError("a box is four numbers")
        labels = np.asarray(data.get("labels", [-1] * len(corners)), dtype=np.float64)
        overlap, least = float(data.get("iou", SAME_OBJECT_IOU)), float(data.get("min_score", LEAST_SCORE))
        if labels.shape != (len(corners),) or len(corners) > _MAX_BOXES or not np.all(np.isfinite(corners)):
            raise ValueError("its boxes are more than 1000, not finite, or not as many as its labels")
        if np.any(corners[:, 2:] <= corners[:, :2]):
            raise ValueError("x2 is not right of x1, or y2 not below y1: corners, not width and height")
        if not 0 < overlap <= 1 or not 0 <= least <= 1:
            raise ValueError("iou lies between 0 and 1, and so does min_score")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _refused(name, error) from error
    return Boxes(corners, np.ones(len(corners)), labels), overlap, least


def _refused(name: str, why: Exception) -> ValueError:
    form = '{"boxes": [[x1, y1, x2, y2], …], "labels": […]}'
    return ValueError(f"{name} holds no boxes ({str(why)[:100]}); write {form}")
