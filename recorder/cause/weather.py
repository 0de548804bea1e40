"""Fog, rain and snow over clean frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recorder.cause.filters import blurred, disk_kernel, line_kernel
from recorder.cause.views import Pixels

__all__ = ["mist", "rain", "snow", "snow_cover", "veil"]

Random = np.random.Generator
#: Sizes of patches of mist, in pixels of the recorded frame.
_LUMPS = (15.0, 250.0)


def veil(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Fog as light scattered on its way: v t + a (1 - t), t falling towards the horizon, in veils or evenly."""
    height, width = pixels.shape[1:3]
    air = np.clip(rng.uniform(0.72, 0.95) + rng.normal(0, 0.015, 3), 0, 1).astype(np.float32)
    kind = rng.integers(3)
    share = np.full((height, width), amount, np.float32)
    slope = rng.uniform(-0.5, 0.5)
    if kind:
        share = share * (1 + np.linspace(slope, -slope, height, dtype=np.float32)[:, None])
    if kind == 2:
        share = share * (1 + 0.5 * _clouds(height, width, 5, rng))
    share = np.clip(share, 0, 0.97)[None, :, :, None]
    if rng.random() < 0.35:  # droplets scatter forward, too: what is far loses its edges
        pixels = blurred(pixels, disk_kernel(rng.uniform(1, 4) * amount / scale, soft=True))
    made: Pixels = pixels * (1 - share) + air * share
    return made


def mist(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Fog near by, in patches: its droplets scatter forward, so fine detail goes before the contrast does."""
    height, width = pixels.shape[1:3]
    air = np.clip(rng.uniform(0.6, 0.97) + rng.normal(0, 0.02, 3), 0, 1).astype(np.float32)
    top, bottom = rng.uniform(0.6, 1.4, 2)
    depth = np.linspace(top, bottom, height, dtype=np.float32)[:, None]
    lump = np.exp(rng.uniform(*np.log(_LUMPS)))
    patches = _clouds(height, width, int(np.clip(width * scale / lump, 2, 40)), rng)
    share = amount * np.float32(rng.uniform(0.3, 1.0)) * depth * (1 + np.float32(rng.uniform(0.2, 1.0)) * patches)
    share = np.clip(share, 0, 0.97)[None, :, :, None]
    lost = np.float32(rng.uniform(0.7, 1.0))  # of the light that still arrives
    soft = blurred(pixels, disk_kernel(rng.uniform(2, 12) * amount**0.5 / scale, soft=True))
    made: Pixels = (pixels * (1 - lost) + soft * lost) * (1 - share) + air * share
    return made


def _clouds(height: int, width: int, across: int, rng: Random) -> npt.NDArray[np.float32]:
    """Smooth noise, about -1 to 1, so many lumps across."""
    down = max(4, round(across * height / width))
    coarse = rng.uniform(-1, 1, (down, across + 2))
    rows, columns = np.linspace(0, down - 1.01, height), np.linspace(0, across + 0.99, width)
    wide = np.stack([np.interp(columns, np.arange(across + 2), row) for row in coarse])
    return np.stack([np.interp(rows, np.arange(down), column) for column in wide.T], axis=1).astype(np.float32)


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


def snow_cover(pixels: Pixels, amount: float, scale: float, rng: Random) -> Pixels:
    """Snow that lies: what is light and low turns white first, the ground lights the scene, crystals glitter."""
    cover = np.float32(np.clip(2.0 * amount**0.35, 0.2, 0.95))
    light = pixels.mean(axis=3, keepdims=True)
    low = np.linspace(-1, 1, pixels.shape[1], dtype=np.float32)[None, :, None, None] * np.float32(rng.uniform(0, 0.25))
    edge = np.float32(rng.uniform(0.55, 0.8)) * (1 - cover) + np.float32(0.12)
    lies = np.clip((light + low - edge) / np.float32(rng.uniform(0.15, 0.5)), 0, 1) * cover
    lies = lies * np.float32(rng.uniform(0.5, 1.0))
    white = np.array([0.93, 0.96, 1.0], np.float32)
    grains = rng.standard_normal((*pixels.shape[:3], 1), np.float32) * np.float32(rng.uniform(0.0, 0.06) / scale)
    lit = pixels * (1 + np.float32(rng.uniform(0, 0.6)) * cover)
    made: Pixels = lit * (1 - lies) + (white + grains) * lies
    glitter = _falling(pixels.shape, amount * rng.uniform(0, 0.6), rng) / np.float32(max(1.0, scale))
    made = made * (1 - glitter) + glitter
    return snow(made, amount * rng.uniform(0.05, 0.4), scale, rng) if rng.random() < 0.5 else made


def _falling(shape: tuple[int, ...], density: float, rng: Random) -> Pixels:
    """Single pixels set by chance, others in every frame."""
    return (rng.random((*shape[:3], 1), np.float32) < density).astype(np.float32)
