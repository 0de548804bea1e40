"""What was decided in pixels of the recorded picture: boxes and masks come in coordinates of the model's input.

What cannot be placed (`replay.placing`) without being told how (`Options.boxes_in`) is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from recorder.bundle.manifest import Image
from replay.compare.boxes import Boxes
from replay.compare.instances import InstanceMasks
from replay.compare.layout import Array
from replay.export.source import Shot
from replay.placing import Placing, placing_of

__all__ = ["placed_boxes", "placed_instances", "placed_mask"]

#: Boxes within so much are fractions of the picture; of detectors' raw answers some lie a bit outside.
_FRACTIONS_UP_TO = 1.5


def placed_boxes(shot: Shot, image: Image) -> Boxes | None:
    """The boxes of a frame in pixels of its picture, clipped to it, best first, however sure.

    What cannot be placed is counted; None where there are no boxes, or none can be placed.
    """
    found = None if shot.reading is None else shot.reading.found
    if found is None:
        return None
    told, left_out = shot.source.exported, shot.source.exported.left_out
    good = found[np.isfinite(found.corners).all(axis=1) & np.isfinite(found.scores) & np.isfinite(found.labels)]
    left_out["box that is not finite"] += len(found) - len(good)
    placing = _of_boxes(shot, image, good)
    if isinstance(placing, str):
        left_out[f"box {placing}"] += len(good)
        return None
    corners = placing.corners(good.corners)
    clipped = np.clip(corners, 0.0, np.tile((image.width, image.height), 2).astype(float))
    inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    left_out["box without area inside its picture"] += int(np.count_nonzero(~inside))
    told.changed["box clipped to its picture"] += int(np.count_nonzero((clipped != corners).any(axis=1) & inside))
    kept = replace(good, corners=clipped)[inside]
    return kept[np.argsort(-kept.scores, kind="stable")]


def placed_mask(shot: Shot, image: Image) -> tuple[Array, Array] | None:
    """The class of each pixel of a frame's picture (H, W) and how sure it is, nearest of the recorded ones.

    Pixels that the model did not see have sureness 0 and class -1. What cannot be placed is counted; None where
    there is no mask, or it cannot be placed.
    """
    reading = shot.reading
    if reading is None or reading.mask is None or reading.sureness is None:
        return None
    grid = _grid(shot, image, *reading.mask.shape)
    if grid is None:
        return None
    seen, rows, columns = grid
    return np.where(seen, reading.mask[rows, columns], -1), np.where(seen, reading.sureness[rows, columns], 0.0)


def placed_instances(shot: Shot, image: Image, masks: InstanceMasks) -> Iterator[Array] | None:
    """The pixels of a frame's picture (H, W) that each of the masks covers; None, and counted: it cannot be placed."""
    grid = _grid(shot, image, *masks.size, told=False)  # their boxes have been
    if grid is None:
        return None
    seen, rows, columns = grid
    return (seen & masks.inside(index)[rows, columns] for index in range(len(masks.bits)))


def _grid(shot: Shot, image: Image, height: int, width: int, *, told: bool = True) -> tuple[Array, Array, Array] | None:
    """Which pixels of a picture a mask of that size says something about, and in which of its rows and columns."""
    size = (width, height) if shot.by_service or shot.input_size is None else shot.input_size
    said = shot.source.options.boxes_in
    placing = _of_input(shot, size, image, "input-stretched" if said in ("image", "fractions") else said, told)
    if isinstance(placing, str):
        shot.source.exported.left_out[f"mask {placing}"] += 1
        return None
    across = _nearest(image.width, width, size[0], placing.scale[0], placing.offset[0])
    down = _nearest(image.height, height, size[1], placing.scale[1], placing.offset[1])
    return (across >= 0)[None, :] & (down >= 0)[:, None], down[:, None], across[None, :]


def _nearest(pixels: int, cells: int, size: int, scale: float, offset: float) -> Array:
    """The cell of a grid over the given picture's side in which the centre of each pixel lies; -1: in none."""
    place = np.floor(((np.arange(pixels) + 0.5) * scale + offset) * cells / size).astype(np.int64)
    return np.where((place >= 0) & (place < cells), place, -1)


def _of_boxes(shot: Shot, image: Image, boxes: Boxes) -> Placing | str:
    """How boxes lie on the picture; else why that is not known, and the remedy."""
    said = shot.source.options.boxes_in
    if said is None and len(boxes) and np.abs(boxes.corners).max() <= _FRACTIONS_UP_TO < min(image.width, image.height):
        return "that may be in fractions of its picture: say --boxes-in fractions, or image"
    if said == "fractions":
        return Placing(scale=(1 / image.width, 1 / image.height))
    if shot.by_service or said == "image":
        return Placing(scale=(1.0, 1.0))
    if shot.input_size is None:
        return "of a model whose input is not recorded: say --boxes-in image, or fractions"
    return _of_input(shot, shot.input_size, image, said)


def _of_input(shot: Shot, size: tuple[int, int], image: Image, said: str | None, told: bool = True) -> Placing | str:
    placing = placing_of(size, (image.width, image.height), said)
    if placing is None:
        return "in the model's input, which has another aspect than the picture: say how it was made, --boxes-in"
    if told and said is None and size != (image.width, image.height):
        shot.source.exported.changed["answer scaled from a model's input that has the picture's aspect"] += 1
    return placing
