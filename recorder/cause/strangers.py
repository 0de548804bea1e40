"""Faults without a name: shown to a profile when it learns, so that `unknown` is a class of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recorder.cause.filters import blurred, disk_kernel
from recorder.cause.views import Pixels

__all__ = ["STRANGERS"]

Random = np.random.Generator


def _posterised(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    levels = np.float32(rng.integers(3, 9))
    made: Pixels = np.rint(pixels * levels) / levels
    return made


def _inverted(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    return 1 - pixels


def _flipped(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels[:, :, ::-1]


def _banded(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """A lamp's flicker under a rolling shutter: bands that wander."""
    count, strength = rng.uniform(2, 14), rng.uniform(0.12, 0.45)
    rows = np.arange(pixels.shape[1]) / pixels.shape[1] * count
    phase = rng.uniform(0, 1) + np.arange(len(pixels))[:, None] * rng.uniform(0.1, 0.9)
    wave = 1 + strength * np.sin(2 * np.pi * (rows + phase))
    made: Pixels = pixels * wave[:, :, None, None].astype(np.float32)
    return made


def _ghosted(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """A second, displaced image: a reflection in the glass, or a fault of the cable."""
    share = np.float32(rng.uniform(0.25, 0.5))
    right, down = (int(part * side) for part, side in zip(rng.uniform(0.04, 0.2, 2), pixels.shape[1:3], strict=True))
    return pixels * (1 - share) + np.roll(pixels, (right, down), (1, 2)) * share


def _torn(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Stripes of the picture slip sideways."""
    made = pixels.copy()
    for _ in range(rng.integers(3, 10)):
        top = int(rng.uniform(0, 0.9) * pixels.shape[1])
        stripe = slice(top, top + max(2, int(rng.uniform(0.02, 0.12) * pixels.shape[1])))
        made[:, stripe] = np.roll(pixels[:, stripe], int(rng.uniform(-0.3, 0.3) * pixels.shape[2]), axis=2)
    return made


def _vignetted(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    height, width = pixels.shape[1:3]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    fall = np.clip(1 - rng.uniform(0.4, 0.9) * (x**2 + y**2) / 1.2, 0.03, 1)
    made: Pixels = pixels * fall[None, :, :, None].astype(np.float32)
    return made


def _flared(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    height, width = pixels.shape[1:3]
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    cy, cx = rng.uniform(0, 1, 2)
    glow = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * rng.uniform(0.12, 0.3) ** 2)) * rng.uniform(0.4, 0.9)
    glow = glow[None, :, :, None].astype(np.float32)
    made: Pixels = pixels + (1 - pixels) * glow
    return made


def _colourless(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    grey = pixels.mean(axis=3, keepdims=True)
    share = np.float32(rng.uniform(0.85, 1.0))
    made: Pixels = pixels * (1 - share) + grey * share
    return made


def _gaudy(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    grey = pixels.mean(axis=3, keepdims=True)
    made: Pixels = grey + (pixels - grey) * np.float32(rng.uniform(1.8, 3.5))
    return made


def _sharpened(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    soft = blurred(pixels, disk_kernel(rng.uniform(1.0, 2.5) / scale, soft=True))
    return pixels + (pixels - soft) * np.float32(rng.uniform(1.0, 3.0))


def _striped(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Columns of the sensor with gains of their own."""
    gains = np.float32(1) + rng.uniform(0.06, 0.25) * rng.standard_normal((1, 1, pixels.shape[2], 1))
    made: Pixels = pixels * gains.astype(np.float32)
    return made


STRANGERS: dict[str, Callable[[Pixels, float, float, Random], Pixels]] = {
    "posterised": _posterised,
    "inverted": _inverted,
    "flipped": _flipped,
    "banded": _banded,
    "ghosted": _ghosted,
    "torn": _torn,
    "vignetted": _vignetted,
    "flared": _flared,
    "colourless": _colourless,
    "gaudy": _gaudy,
    "sharpened": _sharpened,
    "striped": _striped,
}
