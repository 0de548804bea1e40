"""What a frame is labelled with: the truth of its metadata, or what the model decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.manifest import Image
from recorder.bundle.values import JsonValue
from replay.export.source import Shot

__all__ = ["Labelled", "label_of"]


Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What is right about a frame, as far as its metadata say."""

    whole: int | str | None = None  #: the class of the whole picture
    boxes: tuple[tuple[int | str, Corners], ...] = ()  #: class and corners x1 y1 x2 y2, in pixels, within the picture
    is_known: bool = False


def label_of(shot: Shot, image: Image) -> Labelled:
    """Read the truth: a class by index or name, or ``{"boxes": [[x1, y1, x2, y2], …], "labels": […]}`` in the picture.

    What is neither is counted.
    """
    options, left_out = shot.source.options, shot.source.exported.left_out
    said = shot.frame.metadata.get(options.truth)
    if options.by == "prediction" or said is None:
        return Labelled()
    if isinstance(said, bool | int | float | str):
        return Labelled(whole=options.names.key(said), is_known=True)
    try:
        corners, labels = _boxes(said)
    except (ValueError, TypeError, OverflowError):
        left_out["truth that is neither a class nor boxes with labels"] += 1
        return Labelled()
    clipped = np.clip(corners, 0.0, np.asarray([image.width, image.height] * 2, float)).tolist()
    found = [
        (options.names.key(label), (left, top, right, bottom))
        for label, (left, top, right, bottom) in zip(labels, clipped, strict=True)
        if right > left and bottom > top
    ]
    left_out["true box without area inside its picture"] += len(labels) - len(found)
    return Labelled(boxes=tuple(found), is_known=True)


def _boxes(said: JsonValue) -> tuple[NDArray[np.float64], list[JsonValue]]:
    if not isinstance(said, dict):
        raise TypeError("no boxes")
    corners = np.asarray(said.get("boxes"), dtype=np.float64).reshape(-1, 4)
    labels = said.get("labels", [0] * len(corners))
    if not isinstance(labels, list) or len(labels) != len(corners) or not np.isfinite(corners).all():
        raise ValueError("not as many labels as boxes, or not finite")
    if not all(isinstance(label, int | str) for label in labels):
        raise TypeError("labels that are no classes")
    return corners, labels
