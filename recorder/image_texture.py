"""Signals of structure: how fine detail falls off, blocks of compression, veil, and motion of the whole picture."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["blockiness", "haze", "motion", "spectrum_slope"]

Grey = npt.NDArray[np.float32]

#: Side of the blocks that JPEG, MPEG and H.264 transform.
_BLOCK = 8
#: Side of the neighbourhood whose darkest sample counts as haze, on the reduced grid.
_PATCH = 8
#: Octaves of frequency that the slope is fitted to, from the finest, and the least number of columns for that.
_OCTAVES, _LEAST_COLUMNS = 5, 128
#: Part of all power, below which the peak of a correlation is noise: two frames that have nothing in common.
_LEAST_PEAK = 0.03


def spectrum_slope(rows: Grey) -> float:
    """Slope of log power over log frequency along rows, the five finest octaves; natural scenes have about -2.

    Blur makes it steeper, noise flatter. NaN for less than 128 columns.

    Args:
        rows: (rows, columns).
    """
    columns = rows.shape[1]
    if columns < _LEAST_COLUMNS:
        return np.nan
    centred = (rows - rows.mean(axis=1, keepdims=True)) * _window(columns)
    power = (np.abs(np.fft.rfft(centred, axis=1)) ** 2).mean(axis=0)
    edges = (columns // 2) >> np.arange(_OCTAVES, -1, -1)
    octaves = np.log2(np.add.reduceat(power[: edges[-1]], edges[:-1]) / np.diff(edges) + 1e-12)
    place = np.arange(_OCTAVES) - (_OCTAVES - 1) / 2
    return float(place @ octaves / (place @ place))


def blockiness(rows: Grey) -> float:
    """How much larger steps are at one place in eight than elsewhere, as a ratio less one; compression's blocks.

    The place is found, so that a cropped picture counts too; without blocks it is a little above 0. NaN for less than
    64 columns.

    Args:
        rows: (rows, columns), each at full resolution.
    """
    steps = np.abs(np.diff(rows, axis=1))
    whole = steps.shape[1] // _BLOCK * _BLOCK
    if whole < _BLOCK * 7:
        return np.nan
    mean = steps[:, :whole].reshape(len(rows), -1, _BLOCK).mean(axis=(0, 1))
    most = float(mean.max())
    others = (float(mean.sum()) - most) / (_BLOCK - 1)
    return (most + 1e-4) / (others + 1e-4) - 1


def haze(darkest: Grey) -> float:
    """Mean of the darkest sample of each neighbourhood: the dark channel (He, Sun & Tang, 2009), near 0 in clear air.

    Args:
        darkest: (height, width), the least of a pixel's channels.
    """
    height, width = (max(1, side // _PATCH) * min(_PATCH, side) for side in darkest.shape)
    patch = min(_PATCH, darkest.shape[0]), min(_PATCH, darkest.shape[1])
    blocks = darkest[:height, :width].reshape(height // patch[0], patch[0], width // patch[1], patch[1])
    return float(blocks.min(axis=(1, 3)).mean())


def motion(small: npt.NDArray[np.uint8], previous: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """How far the picture moved as a whole, to the right and down, in samples; NaN where that cannot be told.

    Phase correlation of two frames on the coarse grid, with the peak interpolated by a parabola. A thing that moves
    before a fixed background does not count.
    """
    if small.shape != previous.shape or min(small.shape) < 8:
        return np.nan, np.nan
    window = _window(small.shape[0])[:, None] * _window(small.shape[1])
    now, before = (np.fft.rfft2((each - each.mean(dtype=np.float32)) * window) for each in (small, previous))
    cross = now * before.conj()
    size = np.abs(cross)
    if not size.any():
        return np.nan, np.nan
    peak = np.fft.irfft2(cross / np.maximum(size, 1e-3 * size.max()), small.shape)
    row, column = divmod(int(peak.argmax()), peak.shape[1])
    if peak[row, column] < _LEAST_PEAK:
        return np.nan, np.nan
    return _refined(peak[row, :], column), _refined(peak[:, column], row)


def _refined(line: npt.NDArray[Any], place: int) -> float:
    """A peak's place on a circle, between samples, counted from -half to half."""
    length = len(line)
    left, here, right = line[place - 1], line[place], line[(place + 1) % length]
    bend = left - 2 * here + right
    exact = place + (0.5 * (left - right) / bend if bend < 0 else 0.0)
    return float((exact + length / 2) % length - length / 2)


@functools.lru_cache(maxsize=16)
def _window(length: int) -> Grey:
    return np.hanning(length + 2)[1:-1].astype(np.float32)
