"""Fog, rain and snow over clean frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recorder.cause.filters import blurred, disk_kernel, line_kernel
from recorder.cause.views import Pixels

__all__ = ["fog", "rain", "snow"]

Random = np.random.Generator
#: Frames of falling things are drawn on a sheet so much larger, each frame a cut of it from elsewhere.
_SPARE = 16


def fog(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Light scattered on its way: v t + a (1 - t), t falling towards the horizon, in veils or evenly."""
    height, width = pixels.shape[1:3]
    air = np.clip(rng.uniform(0.72, 0.95) + rng.normal(0, 0.015, 3), 0, 1).astype(np.float32)
    kind = rng.integers(3)
    share = np.full((height, width), amount, np.float32)
    slope = rng.uniform(-0.5, 0.5)
    if kind:
        share = share * (1 + np.linspace(slope, -slope, height, dtype=np.float32)[:, None])
    if kind == 2:
        share = share * (1 + 0.5 * _veil(height, width, rng))
    share = np.clip(share, 0, 0.97)[None, :, :, None]
    if rng.random() < 0.35:  # droplets scatter forward, too: what is far loses its edges
        pixels = blurred(pixels, disk_kernel(rng.uniform(1, 4) * amount / scale, soft=True))
    made: Pixels = pixels * (1 - share) + air * share
    return made


def _veil(height: int, width: int, rng: Random) -> npt.NDArray[np.float32]:
    """Smooth noise, about -1 to 1."""
    coarse = rng.uniform(-1, 1, (5, 7))
    rows, columns = np.linspace(0, 3.99, height), np.linspace(0, 5.99, width)
    across = np.stack([np.interp(columns, np.arange(7), row) for row in coarse])
    return np.stack([np.interp(rows, np.arange(5), column) for column in across.T], axis=1).astype(np.float32)


def rain(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Streaks near the vertical, others in every frame, lighter than most of the scene; under a sky a bit darker."""
    length, angle = rng.uniform(10, 28), np.pi / 2 + rng.uniform(-0.35, 0.35)
    thick, light, strength = rng.uniform(0.5, 1.1), rng.uniform(0.65, 0.95), rng.uniform(0.35, 0.8)
    kernel = line_kernel(max(2.0, length / scale), angle)
    dim = np.float32(1 - rng.uniform(0, 0.15))
    seeds = amount / (length / scale * max(1.0, thick / scale)) / 0.7
    cover = _falling(pixels.shape, seeds, rng)
    cover = blurred(cover, kernel) * np.float32(len(kernel) * 0.7 * min(1.0, 2 * thick / scale))
    if thick > 0.8 * scale:
        cover = blurred(cover, disk_kernel(thick / scale)) * np.float32(1.5)
    cover = np.clip(cover, 0, 1) * np.float32(strength)
    made: Pixels = pixels * dim * (1 - cover) + np.float32(light) * cover
    return made


def snow(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Flakes of several sizes, others in every frame; the scene may be lighter and paler behind them."""
    radius, strength = rng.uniform(0.9, 2.6), rng.uniform(0.6, 1.0)
    small = max(0.5, radius / scale)
    cover = np.zeros((*pixels.shape[:3], 1), np.float32)
    for share, size in ((0.6, small), (0.4, small * 1.8)):
        seeds = amount * share / (np.pi * size**2)
        drops = blurred(_falling(pixels.shape, seeds, rng), disk_kernel(size, soft=rng.random() < 0.5))
        cover = np.maximum(cover, drops / max(float(drops.max()), 1e-6))
    if rng.random() < 0.5:
        cover = blurred(cover, line_kernel(max(1.5, rng.uniform(2, 6) / scale), np.pi / 2 + rng.uniform(-0.7, 0.7)))
        cover = cover * np.float32(1.6)
    cover = np.clip(cover, 0, 1) * np.float32(strength)
    paler = np.float32(rng.uniform(0, 0.12))
    made: Pixels = (pixels * (1 - paler) + paler * np.float32(0.85)) * (1 - cover) + np.float32(0.95) * cover
    return made


def _falling(shape: tuple[int, ...], density: float, rng: Random) -> Pixels:
    """Single pixels set by chance, others in every frame."""
    return (rng.random((*shape[:3], 1), np.float32) < density).astype(np.float32)
