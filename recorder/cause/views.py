"""The two views of a frame that causes are told by: all of it, reduced, and its centre in full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FrameRefused", "Views", "checked_frame", "reduced_shape", "views_of"]

Pixels = npt.NDArray[np.float32]

#: Longer side of the reduced view: layout, colour and pose need no more.
WIDE_SIDE = 128
#: Side of the centre in full resolution: 9,000 samples of noise, and 12 blocks of JPEG.
DETAIL_SIDE = 96
#: A smaller image has neither layout nor texture.
MIN_SIDE = 32


class FrameRefused(ValueError):
    """A frame that nothing can be learnt from or told of. One sentence, with the remedy."""


@dataclass(frozen=True, slots=True)
class Views:
    """A run of frames of one stream.

    Attributes:
        wide: (frames, height, width, 3) float32, 0 to 1, as encoded; longer side at most `WIDE_SIDE`.
        detail: the same of the centre at full resolution, at most `DETAIL_SIDE` on a side.
        scale: pixels of the recorded frame for one of ``wide``.
        width: of the recorded frame.
    """

    wide: Pixels
    detail: Pixels
    scale: float
    width: int

    def __len__(self) -> int:
        return len(self.wide)

    def part(self, rows: Any) -> Views:
        """Return some of the frames."""
        return Views(self.wide[rows], self.detail[rows], self.scale, self.width)


def checked_frame(frame: Any) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Return an image as an array that can be measured.

    Raises:
        FrameRefused: it is no HW or HWC image of uint8 or uint16 with 1, 3 or 4 channels, or it is too small.
    """
    pixels = np.asarray(frame)
    if pixels.dtype.name not in ("uint8", "uint16"):
        raise FrameRefused(f"a frame is an image of uint8 or uint16, not of {pixels.dtype}; give it as it was recorded")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise FrameRefused(f"a frame is HW or HWC with 1, 3 or 4 channels, not {pixels.shape}")
    if min(pixels.shape[:2]) < MIN_SIDE:
        raise FrameRefused(f"a frame must be at least {MIN_SIDE} pixels on a side, not {pixels.shape[:2]}")
    return pixels


def reduced_shape(height: int, width: int) -> tuple[int, int]:
    """Return the height and width of the reduced view of frames of a size."""
    factor = -(-max(height, width) // WIDE_SIDE)
    return height // factor, width // factor


def views_of(frames: Sequence[Any]) -> Views:
    """Reduce frames of one stream. Alpha is ignored; a grey image counts as one with three equal channels.

    Raises:
        FrameRefused: a frame cannot be measured, or they are not all of one size. One sentence.
    """
    wide, detail = [], []
    shape: tuple[int, ...] | None = None
    factor = 1
    for frame in frames:
        pixels = checked_frame(frame)
        if shape is not None and pixels.shape[:2] != shape[:2]:
            raise FrameRefused(
                f"frames change their size from {shape[1]}x{shape[0]} to {pixels.shape[1]}x{pixels.shape[0]}; "
                "give those of one camera setting"
            )
        shape = pixels.shape
        full = np.float32(1 / np.iinfo(pixels.dtype).max)
        colour = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
        height, width = colour.shape[:2]
        factor = -(-max(height, width) // WIDE_SIDE)
        top, left = (max(0, (side - DETAIL_SIDE) // 2) for side in (height, width))
        centre = colour[top : top + DETAIL_SIDE, left : left + DETAIL_SIDE] * full
        kept = colour[: height // factor * factor, : width // factor * factor]
        blocks = kept.reshape(height // factor, factor, width // factor, factor, -1)
        small = blocks.mean(axis=(1, 3), dtype=np.float32) * full if factor > 1 else kept * full
        wide.append(np.broadcast_to(small, (*small.shape[:2], 3)))
        detail.append(np.broadcast_to(centre, (*centre.shape[:2], 3)))
    if shape is None:
        raise FrameRefused("no frame was given")
    return Views(np.stack(wide).astype(np.float32), np.stack(detail).astype(np.float32), float(factor), shape[1])
