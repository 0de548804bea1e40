"""Changes to a recorded image for a what-if replay: ``image.brightness=1.3`` on the command line.

Pure: pixels in, pixels of the same shape and dtype out. 16-bit images are changed at their own depth, except by the
edits that go through an 8-bit codec, which refuse them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["EDITS", "Edit", "Pixels", "apply_edits", "parse_edit"]

Pixels = NDArray[Any]

#: Weights of red, green and blue in luma, ITU-R BT.601: what Pillow and OpenCV call grey.
_LUMA = np.asarray([0.299, 0.587, 0.114], np.float32)

#: Below this a neighbouring pixel weighs less than a thousandth of a grey level: exp(-1 / 2 / 0.2²) is 4e-6.
_LEAST_BLUR = 0.2

#: Noise is drawn from one fixed seed: a what-if has to give the same answer twice.
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change: a name of EDITS and how much."""

    name: str
    amount: float

    def __str__(self) -> str:
        return f"image.{self.name}={self.amount:g}"


@dataclass(frozen=True, slots=True)
class _Kind:
    change: Callable[[Pixels, float], Pixels]
    least: float
    most: float
    meaning: str


def parse_edit(name: str, text: str) -> Edit:
    """Read ``NAME=NUMBER`` of ``image.NAME=NUMBER``.

    Raises:
        ValueError: there is no such edit, or the number is out of its range; one sentence with the choices.
    """
    kind = EDITS.get(name)
    if kind is None:
        raise ValueError(f"--set image.{name}: there is no such edit; choose from {', '.join(EDITS)}")
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not kind.least <= amount <= kind.most:
        raise ValueError(
            f"--set image.{name} takes {kind.meaning} from {kind.least:g} to {kind.most:g}, not {text[:40]!r}"
        )
    return Edit(name=name, amount=amount)


def apply_edits(pixels: Pixels, edits: Sequence[Edit]) -> Pixels:
    """Change an image, one edit after the other.

    Args:
        pixels: HW or HWC, uint8 or uint16.
        edits: in order.

    Raises:
        ValueError: an edit cannot be done on such an image.
    """
    for edit in edits:
        pixels = EDITS[edit.name].change(pixels, edit.amount)
    return np.ascontiguousarray(pixels)


def _top(pixels: Pixels) -> float:
    return float(np.iinfo(pixels.dtype).max)


def _rounded(values: Pixels, like: Pixels) -> Pixels:
    return np.clip(np.rint(values), 0, _top(like)).astype(like.dtype)


def _colours(pixels: Pixels) -> Pixels:
    """The channels that carry light: alpha is left alone."""
    return pixels[..., :3] if pixels.ndim == 3 and pixels.shape[2] == 4 else pixels


def _on_colours(change: Callable[[Pixels, float], Pixels]) -> Callable[[Pixels, float], Pixels]:
    def changed(pixels: Pixels, amount: float) -> Pixels:
        done = pixels.copy()
        part = _colours(done)
        part[...] = _rounded(change(part.astype(np.float32), amount), pixels)
        return done

    return changed


def _brightness(values: Pixels, factor: float) -> Pixels:
    return values * np.float32(factor)


def _contrast(values: Pixels, factor: float) -> Pixels:
    middle = values.mean(dtype=np.float64)
    return (values - np.float32(middle)) * np.float32(factor) + np.float32(middle)


def _saturation(values: Pixels, factor: float) -> Pixels:
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError("image.saturation needs an image of three channels")
    grey = (values @ _LUMA)[..., None]
    return np.asarray((values - grey) * np.float32(factor) + grey)


def _warmth(values: Pixels, factor: float) -> Pixels:
    """Red up and blue down by one factor, as a lamp of another colour temperature does; green stays."""
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError("image.warmth needs an image of three channels")
    return values * np.asarray([factor, 1.0, 1 / factor], np.float32)


def _light(values: Pixels, degrees: float) -> Pixels:
    """Light from one side: half as bright again at the edge it comes from, half as bright at the other."""
    height, width = values.shape[:2]
    down, across = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle = math.radians(degrees)
    ramp = (across * math.cos(angle) - down * math.sin(angle)) / (abs(math.cos(angle)) + abs(math.sin(angle)))
    gain = (1 + 0.5 * ramp).astype(np.float32)
    return values * (gain[..., None] if values.ndim == 3 else gain)


def _gamma(pixels: Pixels, exponent: float) -> Pixels:
    done = pixels.copy()
    part = _colours(done)
    part[...] = _rounded((part.astype(np.float32) / _top(pixels)) ** np.float32(exponent) * _top(pixels), pixels)
    return done


def _noise(pixels: Pixels, sigma: float) -> Pixels:
    drawn = np.random.default_rng(_SEED).normal(0.0, sigma, pixels.shape)
    return _rounded(pixels + drawn, pixels)


def _blur(pixels: Pixels, sigma: float) -> Pixels:
    if sigma < _LEAST_BLUR:
        return pixels
    reach = max(1, math.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    values = pixels.astype(np.float32)
    for axis in (0, 1):
        pad = [(reach, reach) if axis == each else (0, 0) for each in range(values.ndim)]
        wide, length = np.pad(values, pad, mode="edge"), values.shape[axis]
        values = np.zeros_like(values)
        for start, weight in enumerate(weights):
            values += np.float32(weight) * np.take(wide, range(start, start + length), axis=axis)
    return _rounded(values, pixels)


def _moved(axis: int) -> Callable[[Pixels, float], Pixels]:
    def move(pixels: Pixels, distance: float) -> Pixels:
        length = pixels.shape[axis]
        return np.take(pixels, np.clip(np.arange(length) - round(distance), 0, length - 1), axis=axis)

    return move


def _rotation(pixels: Pixels, degrees: float) -> Pixels:
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    turned = np.stack(
        [
            np.asarray(Image.fromarray(planes[..., each].astype(np.float32)).rotate(degrees, Image.Resampling.BILINEAR))
            for each in range(planes.shape[2])
        ],
        axis=-1,
    )
    return _rounded(turned, pixels).reshape(pixels.shape)


def _zoom(pixels: Pixels, factor: float) -> Pixels:
    """The middle made larger, or the whole made smaller with its edges drawn out; bilinear."""
    height, width = pixels.shape[:2]
    places = [
        np.clip((np.arange(size) - (size - 1) / 2) / factor + (size - 1) / 2, 0, size - 1) for size in (height, width)
    ]
    (top, left), values = [np.floor(each).astype(np.intp) for each in places], pixels.astype(np.float32)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    down = (places[0] - top).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    across = (places[1] - left).astype(np.float32).reshape(1, -1, *[1] * (values.ndim - 2))
    rows = values[top] * (1 - down) + values[bottom] * down
    return _rounded(rows[:, left] * (1 - across) + rows[:, right] * across, pixels)


def _jpeg(pixels: Pixels, quality: float) -> Pixels:
    grey_or_colour = pixels.ndim == 2 or pixels.shape[2] in (1, 3)
    if pixels.dtype != np.uint8 or not grey_or_colour:
        raise ValueError("image.jpeg needs an 8-bit image of one or three channels")
    file = io.BytesIO()
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    Image.fromarray(flat).save(file, "JPEG", quality=round(quality))
    return np.asarray(Image.open(file)).reshape(pixels.shape)


def _swapped(pixels: Pixels, amount: float) -> Pixels:
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise ValueError("image.swap_channels needs an image of three channels")
    if not amount:
        return pixels
    done = pixels.copy()
    done[..., :3] = pixels[..., 2::-1]
    return done


#: By the name that ``--set image.NAME`` takes.
EDITS: dict[str, _Kind] = {
    "brightness": _Kind(_on_colours(_brightness), 0, 100, "a factor"),
    "contrast": _Kind(_on_colours(_contrast), 0, 100, "a factor"),
    "saturation": _Kind(_on_colours(_saturation), 0, 100, "a factor"),
    "warmth": _Kind(_on_colours(_warmth), 0.1, 10, "a factor of red, and of blue the inverse,"),
    "light": _Kind(_on_colours(_light), -360, 360, "degrees counter-clockwise from the right"),
    "gamma": _Kind(_gamma, 0.05, 20, "an exponent"),
    "blur": _Kind(_blur, 0, 50, "a standard deviation in pixels"),
    "noise": _Kind(_noise, 0, 65535, "a standard deviation in grey levels"),
    "shift_x": _Kind(_moved(1), -10000, 10000, "pixels to the right"),
    "shift_y": _Kind(_moved(0), -10000, 10000, "pixels downwards"),
    "rotate": _Kind(_rotation, -360, 360, "degrees counter-clockwise"),
    "zoom": _Kind(_zoom, 0.1, 10, "a factor"),
    "jpeg": _Kind(_jpeg, 1, 100, "a JPEG quality"),
    "swap_channels": _Kind(_swapped, 0, 1, "0 or 1 (red and blue change places)"),
}
