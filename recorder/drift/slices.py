"""Which part of the frames carries a shift: a camera, a class, an hour, a value of the metadata.

A slice's shift is what its mean moved by since the onset; its effect is how much more it moved than the frames outside
it (a difference in differences, so that a class which always was darker is not blamed for it). Small slices have large
effects by chance, and so do the best of many: the effect is divided by its standard error and judged by Student's t,
at a significance that all slices and signals share (Bonferroni). Frames of a video resemble their neighbours: the mean
of n frames with memory r has the variance s^2 / n^2 * sum of r^|i - j| over all pairs of them that stand in one run
(Bartlett, 1946, for an AR(1) process), here with the frames where they really stand. Slices are ranked by what their
effect is at least at that significance, and not by the effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.drift.contrasts import contrast_variance, memory_of, pair_sums, run_variance
from recorder.drift.labels import Candidate, candidates
from recorder.output_shift import f_tail

__all__ = ["MAX_FRAMES", "SHIFTED_SIGMA", "Ranking", "Slice", "rank_slices"]

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Frames looked at; of more, the newest. A minute of each of some dozen incidents.
MAX_FRAMES = 8_192
#: A cell of the comparison worth fewer independent frames says nothing.
MIN_INDEPENDENT = 4.0
#: Probability that is accepted of naming any slice where all moved alike.
SIGNIFICANCE = 0.01
#: Effects below this many standard deviations matter to nobody, however significant; as in `recorder.drift.stationary`.
LEAST_EFFECT = 1.0
#: A frame this far from what was normal counts as shifted.
SHIFTED_SIGMA = 3.0
#: Degrees of freedom assumed at most: simulated nulls at memory .5 to .98 keep the significance with it.
MAX_FREEDOM = 20.0
#: Slices compared at a time: arrays of slices x 4 x signals stay in the cache.
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Slice:
    """One label's value, and how its frames moved.

    Attributes:
        key: the label, such as "class".
        value: its value as text, or a range of numbers.
        also: other names of the same frames, such as "camera=line-3" beside "stream=line-3".
        frames: of the slice since the onset.
        before: of the slice before it. With none, the slice is new, and is compared by where it stands.
        shifted: of ``frames`` those beyond `SHIFTED_SIGMA` on the effect's side.
        rest: frames outside the slice since the onset.
        rest_shifted: likewise.
        signal: by which it differs most certainly.
        moved: what the slice moved by, in standard deviations of the signal before the onset.
        effect: how much more than the rest, signed.
        at_least: what is left of the effect's size at the accepted significance; 0: it may be chance.
        p: probability of such an effect by chance, corrected for all that was looked at; at most 1.
        worth: independent frames that its frames are worth.
        looked_at: comparisons that share the significance: slices times signals.
    """

    key: str
    value: str
    also: tuple[str, ...]
    frames: int
    before: int
    shifted: int
    rest: int
    rest_shifted: int
    signal: str
    moved: float
    effect: float
    at_least: float
    p: float
    worth: float
    looked_at: int

    @property
    def carries(self) -> bool:
        """Whether the slice carries the shift more than the others, beyond chance."""
        return self.at_least > 0


@dataclass(frozen=True, slots=True)
class Ranking:
    """What was found.

    Attributes:
        slices: those that carry the shift first, the most certain effect first.
        frames: since the onset, that were looked at.
        before: before it.
    """

    slices: tuple[Slice, ...]
    frames: int
    before: int


def rank_slices(
    sigmas: npt.ArrayLike,
    names: Sequence[str],
    labels: Mapping[str, Sequence[object]],
    since: npt.ArrayLike,
    runs: npt.ArrayLike | None = None,
) -> Ranking:
    """Rank slices by how much more certainly than the rest they moved.

    Args:
        sigmas: (n, m), each signal in standard deviations of what is normal for its stream; NaN where there is none.
            Frames of one run stand together, oldest first.
        names: (m) of the signals.
        labels: by key, a value for each frame: text, truth or number; None: it is not known, and the frame is in
            neither the slice nor the rest of that key. Keys, values and slices are bounded (`recorder.drift.labels`).
        since: (n) whether the frame is one since the onset.
        runs: (n) which run of neighbouring frames it is of; None: all are of one.

    Raises:
        ValueError: sizes do not agree.
    """
    x, after = np.asarray(sigmas, np.float64), np.asarray(since, bool)
    told = np.zeros(len(x), np.int64) if runs is None else np.asarray(runs, np.int64)
    if x.ndim != 2 or x.shape[1] != len(names) or len(after) != len(x) or len(told) != len(x):
        raise ValueError(f"sigmas must be (frames, {len(names)}), and since and runs of as many frames")
    if any(len(values) != len(x) for values in labels.values()):
        raise ValueError("labels must have a value, or None, for each frame")
    x, after, told = x[-MAX_FRAMES:], after[-MAX_FRAMES:], told[-MAX_FRAMES:]
    found = candidates({key: values[-MAX_FRAMES:] for key, values in labels.items()}, after)
    looked_at = len(found) * len(names)
    slices: list[Slice] = []
    for first in range(0, len(found), _CHUNK):
        chunk = found[first : first + _CHUNK]
        compared = _Compared(x, after, told, chunk)
        slices += [compared.slice(number, names, looked_at) for number in range(len(chunk))]
    slices.sort(key=lambda each: (-each.at_least, each.p, -abs(each.effect)))
    return Ranking(tuple(slices), int(after.sum()), int((~after).sum()))


class _Compared:
    """Some slices against their rests, signal by signal. Cells: slice since, rest since, slice before, rest before."""

    def __init__(self, x: Array, after: Mask, runs: npt.NDArray[np.int64], chosen: Sequence[Candidate]) -> None:
        self._x, self._after, self._chosen = x, after, chosen
        finite = np.isfinite(x)
        filled = np.where(finite, x, 0.0)
        inside = np.stack([each.members for each in chosen])
        outside = np.stack([each.known & ~each.members for each in chosen])
        cells = np.stack([inside & after, outside & after, inside & ~after, outside & ~after], axis=1)
        weight = cells.astype(np.float64)
        self.count = weight @ finite
        least = np.maximum(self.count, 1.0)
        self.mean = (weight @ filled) / least
        energy = np.maximum(weight @ filled**2 - self.count * self.mean**2, 0.0)
        scale = np.sqrt(energy / least) + 1e-12
        parts = zip(cells, self.mean, scale, strict=True)
        memory = np.stack([memory_of(filled, finite, runs, *part) for part in parts])
        cell_worth = self.count**2 / np.maximum(pair_sums(cells, finite, runs, memory), 1e-12)
        # A mean that is fitted to frames which resemble each other takes more of their spread away than of others.
        share = 1 - np.minimum(1 / np.maximum(cell_worth, 1.0), 0.9)
        own = energy / (least * share)
        spread = energy.sum(axis=1) / np.maximum((self.count * share).sum(axis=1), 1e-12)
        # A noisy slice has its own spread; of a few frames that look quiet nobody knows it.
        variance = np.maximum(own, spread[:, None]) * (self.count > 0)
        self._differences: Mask = np.asarray((self.count[:, 2:] >= MIN_INDEPENDENT).all(axis=1))
        sign = np.array([1.0, -1.0, -1.0, 1.0])[:, None] * np.ones(x.shape[1])
        sign = np.where(self._differences[:, None] | (np.arange(4) < 2)[:, None], sign, 0.0)
        weights = sign * np.sqrt(variance) / least
        independent = (weights**2 * self.count).sum(axis=1)
        # Never less than of independent frames: where slice and rest alternate, memory is no reason to be surer.
        within = np.maximum(independent, contrast_variance(cells, finite, runs, memory, weights))
        self._worth = self.count * (independent / np.maximum(within, 1e-300))[:, None]
        self._testable: Mask = np.asarray((self._worth[:, :2] >= MIN_INDEPENDENT).all(axis=1))
        counted = np.where(sign != 0, self._worth, 0.0).sum(axis=1) - (sign != 0).sum(axis=1)
        between, freedom = run_variance(filled, finite, runs, cells[:, :2], self.mean[:, :2])
        self._variance = np.maximum(within, between)
        self._freedom = np.clip(np.where(between > within, freedom, counted), 1.0, MAX_FREEDOM)

    def slice(self, number: int, names: Sequence[str], looked_at: int) -> Slice:
        """Return what is to be said of a slice, by the signal that tells most certainly."""
        mean, both, variance = self.mean[number], self._differences[number], self._variance[number]
        moved = mean[0] - np.where(both, mean[2], 0.0)
        others = mean[1] - np.where(both, mean[3], 0.0)
        effect = moved - others
        size = np.maximum(np.abs(effect), 1e-300)
        t = np.where(self._testable[number], size / np.sqrt(np.maximum(variance, 1e-300)), 0.0)
        leads = (np.abs(moved) > np.abs(others)) & (size >= LEAST_EFFECT)
        best = max(range(len(names)), key=lambda signal: (bool(leads[signal]), float(t[signal]))) if len(names) else 0
        freedom = float(self._freedom[number, best])
        p = min(1.0, looked_at * f_tail(float(t[best] ** 2), 1.0, freedom)) if t[best] > 0 else 1.0
        at_least = 0.0
        if leads[best] and p < SIGNIFICANCE:
            at_least = float(size[best] * (1 - _quantile(SIGNIFICANCE / looked_at, freedom) / t[best]))
        side = math.copysign(1.0, float(effect[best]))
        one = self._chosen[number]
        beyond = self._x[:, best] * side > SHIFTED_SIGMA
        inside, outside = one.members & self._after, one.known & ~one.members & self._after
        return Slice(
            key=one.key,
            value=one.value,
            also=one.also,
            frames=int(inside.sum()),
            before=int((one.members & ~self._after).sum()),
            shifted=int((inside & beyond).sum()),
            rest=int(outside.sum()),
            rest_shifted=int((outside & beyond).sum()),
            signal=names[best],
            moved=float(moved[best]),
            effect=float(effect[best]),
            at_least=max(0.0, at_least),
            p=p,
            worth=float(self._worth[number, 0, best]),
            looked_at=looked_at,
        )


def _quantile(p: float, freedom: float) -> float:
    """The |t| that chance exceeds with probability p."""
    low, high = 0.0, 1.0
    while f_tail(high * high, 1.0, freedom) > p and high < 1e9:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if f_tail(middle * middle, 1.0, freedom) > p else (low, middle)
    return high
