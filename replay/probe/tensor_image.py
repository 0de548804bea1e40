"""A model's input tensor seen as a picture, and back: which axes are what, and how it was normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NORMALISATIONS", "Normalisation", "TensorImage", "guess_normalisation", "image_size", "is_image_shape"]

Array = NDArray[Any]

#: Pixels are handed to probes with 16 bits: a float input that was resized after decoding lies between grey levels.
_TOP = 65535.0

#: A resize with overshoot (bicubic, Lanczos) leaves the range by some grey levels.
_SLACK = 0.06

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """``input = (pixel - mean) / std`` with pixels from 0 to 1."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


#: The usual ones, the most common first. ImageNet: torchvision's reference training; CLIP: Radford et al. 2021.
NORMALISATIONS = (
    Normalisation("0 to 1", (0.0,), (1.0,)),
    Normalisation("0 to 255", (0.0,), (1 / 255,)),
    Normalisation("ImageNet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Normalisation("CLIP", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    Normalisation("-1 to 1", (0.5,), (0.5,)),
)


def is_image_shape(shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape can be a batch of pictures, NCHW or NHWC, or one of them."""
    return len(shape) in (3, 4) and _channel_axis(shape) is not None and min(shape[-3:]) >= 1


def image_size(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Width and height of the pictures that a tensor of this shape can hold; None: none."""
    if not is_image_shape(shape):
        return None
    height, width = (size for axis, size in enumerate(shape) if axis >= len(shape) - 3 and axis != _channel_axis(shape))
    return width, height


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    for axis in (len(shape) - 3, len(shape) - 1):
        others = [size for place, size in enumerate(shape[-3:]) if place + len(shape) - 3 != axis]
        if shape[axis] in _CHANNELS and min(others) >= 8:
            return axis
    return None


def guess_normalisation(values: Array, channels: int) -> Normalisation | None:
    """Return the usual normalisation that makes pixels of values; None where none does.

    The range decides; where several fit, the one whose pixels fill most of it, since real pictures have dark and light
    places. Values on a grid of 255 levels settle it, as those of a picture that was not resized after decoding.

    Args:
        values: (..., channels).
        channels: of the picture.
    """
    best: tuple[float, Normalisation] | None = None
    sample = values.reshape(-1, channels)[:: max(1, values.size // channels // 4096)]
    for each in NORMALISATIONS:
        if len(each.mean) not in (1, channels):
            continue
        pixels = sample * np.asarray(each.std) + np.asarray(each.mean)
        low, high = float(pixels.min()), float(pixels.max())
        if low < -_SLACK or high > 1 + _SLACK:
            continue
        off_grid = float(np.abs(pixels * 255 - np.rint(pixels * 255)).mean())  # 0.25 for values between levels
        rank = (high - low) + (2.0 if off_grid < 0.01 and high - low > 2 / 255 else 0.0)
        if best is None or rank > best[0] + 1e-9:
            best = (rank, each)
    return None if best is None else best[1]


class TensorImage:
    """Between one item of an input tensor and HWC uint16 pixels."""

    def __init__(self, tensor: Array, normalisation: Normalisation | None) -> None:
        """Learn the layout from a tensor.

        Args:
            tensor: the recorded input: NCHW, NHWC, CHW or HWC; floating or uint8.
            normalisation: how it was made of pixels; None: guessed, else its own range stands for black to white.
        """
        axis = _channel_axis(tensor.shape)
        if axis is None:
            raise ValueError(f"an input of shape {list(tensor.shape)} is no picture")
        self._axis = axis - tensor.ndim
        self.shape = tensor.shape
        self.dtype = tensor.dtype
        self.channels = tensor.shape[axis]
        self._batched = tensor.ndim == 4
        values = np.moveaxis(tensor, self._axis, -1).astype(np.float64)
        if tensor.dtype == np.uint8:
            normalisation = normalisation or Normalisation("0 to 255", (0.0,), (1 / 255,))
        elif normalisation is None:
            normalisation = guess_normalisation(values, self.channels)
        self.assumed = normalisation is None
        if normalisation is None:
            low, high = float(values.min()), float(values.max())
            normalisation = Normalisation(
                "its own range", (-low / max(high - low, 1e-12),), (1 / max(high - low, 1e-12),)
            )
        elif len(normalisation.mean) not in (1, self.channels):
            raise ValueError(f"a normalisation of {len(normalisation.mean)} channels for a picture of {self.channels}")
        self.normalisation = normalisation

    @property
    def channel_axis_of_item(self) -> int:
        """Of one item of three axes."""
        return 3 + self._axis

    def pixels(self, tensor: Array, row: int) -> Array:
        """One item as (H, W) or (H, W, C) uint16."""
        item = tensor[row] if self._batched else tensor
        values = np.moveaxis(item, self._axis, -1).astype(np.float64)
        values = values * np.asarray(self.normalisation.std) + np.asarray(self.normalisation.mean)
        pixels: Array = np.clip(np.rint(values * _TOP), 0, _TOP).astype(np.uint16)
        return pixels[..., 0] if self.channels == 1 else pixels

    def tensor(self, tensor: Array, row: int, pixels: Array) -> Array:
        """The tensor with one item replaced by pixels, uint8 or uint16."""
        values = pixels.astype(np.float64) / np.iinfo(pixels.dtype).max
        if self.channels == 1:
            values = values.reshape(*values.shape[:2], 1)
        normalised = (values - np.asarray(self.normalisation.mean)) / np.asarray(self.normalisation.std)
        item = np.moveaxis(normalised, -1, self._axis)
        done = np.array(tensor, copy=True)
        place = done[row] if self._batched else done
        place[...] = np.rint(item) if self.dtype.kind == "u" else item
        return done
