"""How sure the difference of two groups of a video's frames is: memory from frame to frame, and runs as a whole.

Axes: ``S`` slices, four cells of frames each, ``n`` frames, ``m`` signals.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["MIN_RUNS", "contrast_variance", "memory_of", "pair_sums", "run_variance"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: With fewer runs nothing tells how much whole runs differ: findings are of these runs alone.
MIN_RUNS = 4


def memory_of(
    filled: Array, finite: Mask, runs: npt.NDArray[np.int64], cells: Mask, mean: Array, scale: Array
) -> Array:
    """(m): lag-one correlation of what cells leave over, corrected for the means that were fitted (Kendall, 1954).

    Each cell's remainders are taken in its own standard deviations: a noisy one would hide that neighbours agree.
    """
    place = np.where(cells.any(axis=0), cells.argmax(axis=0), -1)
    there = finite & (place >= 0)[:, None]
    left = np.where(there, (filled - mean[place]) / scale[place], 0.0)
    follows = there[1:] & there[:-1] & (runs[1:] == runs[:-1])[:, None]
    pairs = follows.sum(axis=0)
    energy = 0.5 * ((left[1:] ** 2 + left[:-1] ** 2) * follows).sum(axis=0)
    known = (left[1:] * left[:-1] * follows).sum(axis=0) / np.maximum(energy, 1e-12)
    groups = len(np.unique(runs)) + 3
    memory: Array = np.clip(known + groups * (1 + 3 * known) / np.maximum(pairs, 1), 0.0, 0.99)
    return memory


def pair_sums(cells: Mask, finite: Mask, runs: npt.NDArray[np.int64], memory: Array) -> Array:
    """(S, 4, m): the sum of memory^|i - j| over all pairs of a cell's frames that stand in one run."""
    total = np.zeros((*cells.shape[:2], finite.shape[1]))
    state = np.zeros_like(total)
    factor = memory[:, None, :]
    for row in range(cells.shape[2]):
        if row and runs[row] != runs[row - 1]:
            state[:] = 0
        here = cells[:, :, row, None] & finite[row]
        state *= factor
        total += here * (2 * state + 1)
        state += here
    return total


def contrast_variance(cells: Mask, finite: Mask, runs: npt.NDArray[np.int64], memory: Array, weights: Array) -> Array:
    """(S, m): the variance of a sum of all frames, each with its cell's weight, at that memory within a run."""
    total = np.zeros_like(memory)
    state = np.zeros_like(total)
    place = np.where(cells.any(axis=1), cells.argmax(axis=1), -1)
    which = np.arange(len(cells))
    for row in range(cells.shape[2]):
        if row and runs[row] != runs[row - 1]:
            state[:] = 0
        own = place[:, row]
        here = np.where((own >= 0)[:, None] & finite[row], weights[which, own], 0.0)
        state *= memory
        total += here * (2 * state + here)
        state += here
    return total


def run_variance(
    filled: Array, finite: Mask, runs: npt.NDArray[np.int64], cells: Mask, mean: Array
) -> tuple[Array, Array]:
    """(S, m) the variance of slice less rest by what whole runs differ by, and its degrees of freedom.

    Each run moves by an amount of its own (a random effect), told by its mean residual; it weighs as the share of the
    slice's frames that it has less its share of the rest's. Fewer than `MIN_RUNS` runs do not tell that amount.
    """
    starts = np.flatnonzero(np.concatenate([[True], runs[1:] != runs[:-1]]))
    made, freedom = np.zeros((len(cells), filled.shape[1])), np.ones((len(cells), filled.shape[1]))
    for number, (inside, outside) in enumerate(cells):
        there = finite & (inside | outside)[:, None]
        left = np.where(there, filled - np.where(inside[:, None], mean[number, 0], mean[number, 1]), 0.0)
        count = np.add.reduceat(there.astype(np.float64), starts, axis=0)
        level = np.add.reduceat(left, starts, axis=0) / np.maximum(count, 1.0)
        told = (count > 0).sum(axis=0)
        shares = [np.add.reduceat(side.astype(np.float64), starts) / max(side.sum(), 1) for side in (inside, outside)]
        apart = float(((shares[0] - shares[1]) ** 2).sum())
        freedom[number] = np.maximum(told - 2, 1)
        made[number] = np.where(told >= MIN_RUNS, (level**2).sum(axis=0) / freedom[number] * apart, 0.0)
    return made, freedom
