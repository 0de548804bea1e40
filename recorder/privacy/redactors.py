"""What makes a part of an image unrecognisable: pure functions of pixels, which fail towards removing too much.

Pixels are HW or HWC arrays of uint8 or uint16; what is returned is always a new array. Boxes are ``(x0, y0, x1, y1)``
in pixels, right and lower edge excluded, clipped to the image. Boxes that cannot be understood cost the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_BOXES", "blank", "downscale", "fill", "pixelate"]

Pixels = NDArray[Any]

#: More boxes than any detector reports; a list beyond is taken for malformed.
MAX_BOXES = 4096
#: A box keeps at most so many blocks along its longer side, however small ``block`` is: a face of 16 blocks can still
#: be told from a set of known faces by a trained classifier (McPherson et al. 2016, "Defeating image obfuscation").
MAX_BLOCKS = 8

Box = tuple[int, int, int, int]


def pixelate(pixels: Pixels, boxes: object, block: int = 16) -> Pixels:
    """Replace squares inside each box by their mean.

    Args:
        pixels: HW or HWC, uint8 or uint16.
        boxes: a sequence of ``(x0, y0, x1, y1)``; anything else blanks the whole image.
        block: edge of a square in pixels; larger where a box would keep more than 8 of them along its longer side.

    Raises:
        ValueError: the pixels or ``block`` are not what is said above.
    """
    _check(pixels)
    if isinstance(block, bool) or not isinstance(block, int) or block < 2:
        raise ValueError(f"block={block!r} must be a whole number of pixels, at least 2")
    found = _boxes(pixels, boxes)
    if found is None:
        return blank(pixels)
    redacted = pixels.copy()
    for x0, y0, x1, y1 in found:
        edge = max(block, -(-max(x1 - x0, y1 - y0) // MAX_BLOCKS))
        part = redacted[y0:y1, x0:x1]
        part[...] = _means(part, edge)
    return redacted


def fill(pixels: Pixels, boxes: object, value: int = 0) -> Pixels:
    """Overwrite each box with one value.

    Args:
        pixels: HW or HWC, uint8 or uint16.
        boxes: a sequence of ``(x0, y0, x1, y1)``; anything else fills the whole image.
        value: of every channel, within the dtype.

    Raises:
        ValueError: the pixels or ``value`` are not what is said above.
    """
    _check(pixels)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= np.iinfo(pixels.dtype).max:
        raise ValueError(f"value={value!r} must be a whole number that {pixels.dtype} holds")
    found = _boxes(pixels, boxes)
    if found is None:
        return blank(pixels, value)
    redacted = pixels.copy()
    for x0, y0, x1, y1 in found:
        redacted[y0:y1, x0:x1] = value
    return redacted


def downscale(pixels: Pixels, factor: int | None = None, max_side: int | None = None) -> Pixels:
    """Shrink the whole image by averaging squares; what is returned has fewer rows and columns.

    Args:
        pixels: HW or HWC, uint8 or uint16.
        factor: edge of a square in pixels, at least 2; or
        max_side: the longer side is at most so many pixels afterwards.

    Raises:
        ValueError: the pixels are not what is said above, or not exactly one of the two is a positive number.
    """
    _check(pixels)
    longer = max(pixels.shape[:2])
    if (factor is None) == (max_side is None):
        raise ValueError("downscale needs either factor or max_side")
    if factor is not None:
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
            raise ValueError(f"factor={factor!r} must be a whole number, at least 2")
        edge = factor
    else:
        if isinstance(max_side, bool) or not isinstance(max_side, int) or max_side < 1:
            raise ValueError(f"max_side={max_side!r} must be a positive number of pixels")
        edge = math.ceil(longer / max_side)
    return pixels.copy() if edge == 1 else _squares(pixels, min(edge, longer))


def blank(pixels: Pixels, value: int = 0) -> Pixels:
    """Return an image of the same shape and dtype in which nothing is left."""
    return np.full(pixels.shape, value, pixels.dtype)


def _check(pixels: Pixels) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.dtype.name not in ("uint8", "uint16"):
        raise ValueError("pixels must be a numpy array of uint8 or uint16")
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise ValueError(f"pixels of shape {pixels.shape} must be HW or HWC, and not empty")


def _boxes(pixels: Pixels, boxes: object) -> list[Box] | None:
    """Clip the boxes to the image; None when one of them cannot be understood."""
    if isinstance(boxes, np.ndarray):
        boxes = boxes.tolist()
    if not isinstance(boxes, list | tuple) or len(boxes) > MAX_BOXES:
        return None
    height, width = pixels.shape[:2]
    found = []
    for box in boxes:
        corners = list(_numbers(box))
        if len(corners) != 4:
            return None
        x0, y0, x1, y1 = corners
        # Sides below a pixel are most often coordinates between 0 and 1, which say nothing here.
        if x1 - x0 < 1 or y1 - y0 < 1:
            return None
        clipped = (
            min(max(math.floor(x0), 0), width),
            min(max(math.floor(y0), 0), height),
            min(max(math.ceil(x1), 0), width),
            min(max(math.ceil(y1), 0), height),
        )
        if clipped[0] < clipped[2] and clipped[1] < clipped[3]:
            found.append(clipped)
    return found


def _numbers(box: object) -> Iterator[float]:
    """The numbers of a box; fewer than it has entries when one of them is none."""
    if isinstance(box, np.ndarray):
        box = box.tolist()
    if isinstance(box, Sequence) and not isinstance(box, str | bytes) and len(box) == 4:
        for corner in box:
            if isinstance(corner, int | float) and not isinstance(corner, bool) and abs(corner) < 2**31:
                yield corner  # neither NaN nor infinite: those compare as false


def _squares(pixels: Pixels, edge: int) -> Pixels:
    """The mean of each square, one pixel each; squares at the right and lower border may be smaller."""
    rows, columns = np.arange(0, pixels.shape[0], edge), np.arange(0, pixels.shape[1], edge)
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, axis=0, dtype=np.uint64), columns, axis=1)
    heights, widths = np.diff(rows, append=pixels.shape[0]), np.diff(columns, append=pixels.shape[1])
    counts = np.outer(heights, widths).astype(np.uint64)
    if pixels.ndim == 3:
        counts = counts[:, :, None]
    means: Pixels = ((sums + counts // np.uint64(2)) // counts).astype(pixels.dtype)
    return means


def _means(pixels: Pixels, edge: int) -> Pixels:
    squares = _squares(pixels, edge)
    spread = squares.repeat(edge, axis=0).repeat(edge, axis=1)
    return spread[: pixels.shape[0], : pixels.shape[1]]
