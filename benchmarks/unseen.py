"""Corruptions that no profile is shown: they have no name, and should get none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recorder.cause.corruptions import quantised
from recorder.cause.filters import moved
from recorder.cause.views import Pixels, Views

__all__ = ["UNSEEN", "applied"]

Random = np.random.Generator


def applied(views: Views, kind: str, seed: int) -> Views:
    """Return a window with such a corruption."""
    wide, detail = (
        quantised(UNSEEN[kind](pixels, np.random.default_rng(seed))) for pixels in (views.wide, views.detail)
    )
    return Views(wide, detail, views.scale, views.width)


def _solarised(pixels: Pixels, rng: Random) -> Pixels:
    return np.where(pixels > rng.uniform(0.4, 0.7), 1 - pixels, pixels)


def _interlaced(pixels: Pixels, rng: Random) -> Pixels:
    made = pixels.copy()
    made[1:, ::2] = pixels[:-1, ::2]
    return np.where(
        (np.arange(pixels.shape[1]) % 2 == 0)[None, :, None, None], np.roll(made, rng.integers(3, 9), 2), made
    )


def _hue_turned(pixels: Pixels, rng: Random) -> Pixels:
    grey = pixels.mean(axis=3, keepdims=True)
    return grey - (pixels - grey)


def _tiles_swapped(pixels: Pixels, rng: Random) -> Pixels:
    height, width = pixels.shape[1] // 4, pixels.shape[2] // 4
    made = pixels.copy()
    order = rng.permutation(16)
    for target, source in enumerate(order):
        (a, b), (c, d) = divmod(target, 4), divmod(int(source), 4)
        made[:, a * height : (a + 1) * height, b * width : (b + 1) * width] = pixels[
            :, c * height : (c + 1) * height, d * width : (d + 1) * width
        ]
    return made


def _zoomed(pixels: Pixels, rng: Random) -> Pixels:
    return moved(pixels, 0.0, 0.0, 0.0, zoom=float(rng.uniform(1.3, 2.0)))


def _checked(pixels: Pixels, rng: Random) -> Pixels:
    y, x = np.mgrid[0 : pixels.shape[1], 0 : pixels.shape[2]]
    board = ((y // 3 + x // 3) % 2)[None, :, :, None].astype(np.float32)
    return pixels + (board - 0.5) * np.float32(rng.uniform(0.1, 0.3))


def _lines_lost(pixels: Pixels, rng: Random) -> Pixels:
    made = pixels.copy()
    made[:, rng.random(pixels.shape[1]) < rng.uniform(0.1, 0.3)] = 0
    return made


def _one_channel_lost(pixels: Pixels, rng: Random) -> Pixels:
    made = pixels.copy()
    made[..., rng.integers(3)] = 0
    return made


def _bits_turned(pixels: Pixels, rng: Random) -> Pixels:
    bit = 1 << int(rng.integers(5, 8))
    return ((np.rint(pixels * 255).astype(int) ^ bit) / 255).astype(np.float32)


def _waved(pixels: Pixels, rng: Random) -> Pixels:
    made = np.empty_like(pixels)
    turn = rng.uniform(0, 6)
    for row in range(pixels.shape[1]):
        made[:, row] = np.roll(
            pixels[:, row], round(0.04 * pixels.shape[2] * np.sin(row / pixels.shape[1] * 20 + turn)), 1
        )
    return made


UNSEEN: dict[str, Callable[[Pixels, Random], Pixels]] = {
    "solarised": _solarised,
    "interlaced": _interlaced,
    "hue turned": _hue_turned,
    "tiles swapped": _tiles_swapped,
    "zoomed": _zoomed,
    "checked": _checked,
    "lines lost": _lines_lost,
    "one channel lost": _one_channel_lost,
    "bits turned": _bits_turned,
    "waved": _waved,
}
