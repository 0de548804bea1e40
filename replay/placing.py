"""Where in the recorded picture something lies that a model found in its input.

A model sees a picture that was resized, and nothing in a bundle says how. Where its input has the size of the recorded
picture, coordinates are the same; where it has its aspect, it is taken for the whole picture, scaled. Anything else
is a matter of the preprocessing and has to be told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recorder.bundle.manifest import Call
from recorder.bundle.values import tensors_of
from replay.compare.layout import Array
from replay.probe.tensor_image import image_size

__all__ = ["Placing", "input_size", "placing_of"]

#: Sides are whole pixels: 1280 x 720 becomes 341 x 192.
_SAME_ASPECT = 0.01


@dataclass(frozen=True, slots=True)
class Placing:
    """``given = picture * scale + offset``, of x and y."""

    scale: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    def corners(self, boxes: Array) -> Array:
        """Boxes (N, 4: x1 y1 x2 y2) in pixels of the picture."""
        result: Array = (boxes - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        return result


def input_size(call: Call, row: int | None) -> tuple[int, int] | None:
    """Width and height of the picture that a model was given: of its first tensor that can hold one; None: of none.

    Args:
        call: of the model.
        row: the frame's item of a batch, where the model takes a list of pictures.
    """
    shapes = [tensor.shape for part in (call.args, call.kwargs) for _, tensor in tensors_of(part)]
    shapes = [shape for shape in shapes if image_size(shape) is not None]
    if not shapes:
        return None
    return image_size(shapes[row if len(shapes[0]) == 3 and row is not None and row < len(shapes) else 0])


def placing_of(size: tuple[int, int], picture: tuple[int, int], made: str | None = None) -> Placing | None:
    """How coordinates in an input of ``size`` lie on a picture, both width and height.

    Args:
        size: of the input.
        picture: of the recorded picture.
        made: how the input was made of the picture: "input-stretched", "input-letterboxed" (borders on both sides) or
            "input-padded" (the border at the right or the bottom); None: nobody says.

    Returns:
        None where that cannot be known.
    """
    scale = (size[0] / picture[0], size[1] / picture[1])
    if size == picture or made == "input-stretched":
        return Placing(scale=scale)
    if made is None:
        return Placing(scale=scale) if abs(scale[0] / scale[1] - 1) <= _SAME_ASPECT else None
    fitted = min(scale)
    room = 0.5 if made == "input-letterboxed" else 0.0
    free = (size[0] - picture[0] * fitted, size[1] - picture[1] * fitted)
    return Placing(scale=(fitted, fitted), offset=(free[0] * room, free[1] * room))
