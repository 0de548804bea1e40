"""Blurs, motions and resampling of runs of frames, in numpy and Pillow alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recorder.cause.views import Pixels

__all__ = ["blurred", "disk_kernel", "line_kernel", "moved", "resized"]

#: Samples along each side of a pixel from which a kernel's partly covered pixels are weighed.
_FINE = 5


def blurred(pixels: Pixels, kernel: npt.NDArray[np.float32]) -> Pixels:
    """Convolve every frame and channel with a kernel of odd sides; edges are mirrored.

    Args:
        pixels: (frames, height, width, channels).
        kernel: (k, k), its sum is 1.
    """
    reach = len(kernel) // 2
    if reach == 0:
        return pixels
    reach = min(reach, min(pixels.shape[1:3]) - 1)
    middle = len(kernel) // 2
    kernel = kernel[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    padded = np.pad(pixels, ((0, 0), (reach, reach), (reach, reach), (0, 0)), "reflect")
    height, width = padded.shape[1:3]
    spectrum = np.fft.rfft2(padded, axes=(1, 2)) * np.fft.rfft2(kernel, (height, width))[None, :, :, None]
    made = np.fft.irfft2(spectrum, (height, width), axes=(1, 2))
    return made[:, 2 * reach :, 2 * reach :].astype(np.float32)


def disk_kernel(radius: float, soft: bool = False) -> npt.NDArray[np.float32]:
    """A lens out of focus: a disk, or a Gaussian of the same second moment."""
    reach = max(1, int(np.ceil(radius * (2 if soft else 1))))
    axis = (np.arange((2 * reach + 1) * _FINE) + 0.5) / _FINE - reach - 0.5
    square = axis[:, None] ** 2 + axis[None, :] ** 2
    fine = np.exp(-2 * square / max(radius, 0.05) ** 2) if soft else (square <= max(radius, 0.3) ** 2).astype(float)
    return _gathered(fine)


def line_kernel(length: float, angle: float) -> npt.NDArray[np.float32]:
    """A camera that moves along a line while it exposes."""
    reach = max(1, int(np.ceil(length / 2)))
    fine = np.zeros(((2 * reach + 1) * _FINE,) * 2)
    steps = np.linspace(-length / 2, length / 2, max(3, int(length * _FINE * 2)))
    rows, columns = (
        np.clip(((steps * part + reach + 0.5) * _FINE).astype(int), 0, len(fine) - 1)
        for part in (np.sin(angle), np.cos(angle))
    )
    np.add.at(fine, (rows, columns), 1.0)
    return _gathered(fine)


def _gathered(fine: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    side = len(fine) // _FINE
    kernel = fine.reshape(side, _FINE, side, _FINE).sum(axis=(1, 3))
    made: npt.NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return made


def moved(pixels: Pixels, degrees: float, right: float, down: float, zoom: float = 1.0) -> Pixels:
    """Turn about the centre, then shift, bilinearly; what comes in from outside mirrors what is inside."""
    height, width = pixels.shape[1:3]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    cy, cx = (height - 1) / 2, (width - 1) / 2
    sine, cosine = np.sin(np.radians(degrees)) / zoom, np.cos(np.radians(degrees)) / zoom
    y, x = y - cy - down, x - cx - right
    return _sampled(pixels, _mirrored(sine * x + cosine * y + cy, height), _mirrored(cosine * x - sine * y + cx, width))


def _mirrored(places: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.float64]:
    period = 2 * (size - 1)
    folded = np.mod(places, period)
    made: npt.NDArray[np.float64] = np.minimum(folded, period - folded)
    return made


def _sampled(pixels: Pixels, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> Pixels:
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    bottom, right = np.minimum(top + 1, pixels.shape[1] - 1), np.minimum(left + 1, pixels.shape[2] - 1)
    v, u = ((y - top)[None, :, :, None]).astype(np.float32), ((x - left)[None, :, :, None]).astype(np.float32)
    upper = pixels[:, top, left] * (1 - u) + pixels[:, top, right] * u
    lower = pixels[:, bottom, left] * (1 - u) + pixels[:, bottom, right] * u
    made: Pixels = upper * (1 - v) + lower * v
    return made


def resized(pixels: Pixels, factor: float, down: str, up: str) -> Pixels:
    """Make every frame coarser by a factor and bring it back to its size; methods are Pillow's resampling filters."""
    from PIL import Image as pil

    height, width = pixels.shape[1:3]
    small = (max(4, round(width / factor)), max(4, round(height / factor)))
    given = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    made = np.empty_like(pixels)
    for number, frame in enumerate(given):
        coarse = pil.fromarray(frame).resize(small, pil.Resampling[down.upper()])
        made[number] = np.asarray(coarse.resize((width, height), pil.Resampling[up.upper()]), np.float32) / 255
    return made
