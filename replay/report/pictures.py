"""Pictures of frames at the size they are shown, encoded again from pixels: no byte of an image member is copied."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as pil

__all__ = ["Picture", "picture", "png_uri"]

#: Longer side of a picture, in pixels: what half a wide screen shows; then what it is made smaller to.
_SIDES = (960, 720, 480, 320)

#: JPEG qualities tried at each side, best first: 82 shows no blocks, 50 still shows what is there.
_QUALITIES = (82, 65, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture inside a page."""

    uri: str  #: data:image/jpeg;base64,…
    width: int  #: in pixels, of the picture
    height: int


def picture(pixels: npt.NDArray[Any], max_bytes: int, side: int = _SIDES[0]) -> Picture | None:
    """Encode pixels as JPEG within a size.

    Args:
        pixels: HW or HWC, uint8 or uint16, as a bundle holds them.
        max_bytes: of the JPEG.
        side: longest side in pixels.

    Returns:
        The best picture that fits; None for what is no picture, or fits at no size.
    """
    source = _eight_bit(pixels, side)
    if source is None:
        return None
    for longest in (side, *(each for each in _SIDES if each < side)):
        shown = source.copy()
        shown.thumbnail((longest, longest), pil.Resampling.BILINEAR, reducing_gap=2.0)
        for quality in _QUALITIES:
            file = io.BytesIO()
            shown.save(file, "JPEG", quality=quality)
            if file.tell() <= max_bytes:
                return Picture(uri=_uri("jpeg", file.getvalue()), width=shown.width, height=shown.height)
    return None


def png_uri(colours: npt.NDArray[np.uint8], max_bytes: int) -> str | None:
    """Encode HW4 colours (RGBA) as PNG; None where it takes more than so many bytes."""
    file = io.BytesIO()
    pil.fromarray(colours).save(file, "PNG")
    return _uri("png", file.getvalue()) if file.tell() <= max_bytes else None


def _eight_bit(pixels: npt.NDArray[Any], side: int) -> pil.Image | None:
    if not pixels.size or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and not 0 < pixels.shape[2] <= 4):
        return None
    step = max(1, max(pixels.shape[:2]) // (4 * side))  # far larger ones are thinned first: a picture, no measurement
    small = np.ascontiguousarray(pixels[::step, ::step])
    if small.dtype != np.uint8:  # a 12-bit camera fills a sixteenth of the range: stretch it
        low, high = int(small.min()), int(small.max())
        small = ((small.astype(np.float32) - low) * (255 / max(1, high - low))).astype(np.uint8)
    if small.ndim == 3:
        small = small[:, :, :3] if small.shape[2] >= 3 else small[:, :, 0]
    return pil.fromarray(np.ascontiguousarray(small))


def _uri(form: str, data: bytes) -> str:
    return f"data:image/{form};base64,{base64.b64encode(data).decode('ascii')}"
