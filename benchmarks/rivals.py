"""What drift is usually told by, as simply as it can be written: rivals in `benchmarks.drift`.

Each is set to one false alarm in so many frames the way its own documentation says, which takes frames for independent.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy import stats

from benchmarks.results import quantile


class Rival(Protocol):
    """A detector of a stream."""

    def update(self, scores: np.ndarray) -> bool:
        """Take in a frame; say whether this is drift."""


class PlainCusum:
    """Page's CUSUM of every signal, its threshold simulated on independent normal frames."""

    ALLOWANCE = 0.25

    def __init__(self, reference: np.ndarray, frames_per_false_alarm: int) -> None:
        self._mean, self._scale = reference.mean(axis=0), reference.std(axis=0) + 1e-9
        size = reference.shape[1]
        self._sums = np.zeros(2 * size)
        # Siegmund's approximation (1985) of the run length to a false alarm of one side.
        low, high = 1.0, 60.0
        for _ in range(60):
            middle = (low + high) / 2
            b, k = middle + 1.166, 2 * self.ALLOWANCE
            length = (math.exp(k * b) - k * b - 1) / (2 * self.ALLOWANCE**2)
            low, high = (middle, high) if length < frames_per_false_alarm * 2 * size else (low, middle)
        self._limit = high

    def update(self, scores: np.ndarray) -> bool:
        z = (scores - self._mean) / self._scale
        self._sums = np.maximum(0.0, self._sums + np.concatenate([z, -z]) - self.ALLOWANCE)
        fired = bool((self._sums > self._limit).any())
        if fired:
            self._sums[:] = 0
        return fired


class _Windowed:
    """Judges a window when it is full; windows do not overlap."""

    def __init__(self, reference: np.ndarray, window: int) -> None:
        self.reference = reference
        self._window = window
        self._frames: list[np.ndarray] = []

    def update(self, scores: np.ndarray) -> bool:
        self._frames.append(scores)
        if len(self._frames) < self._window:
            return False
        frames, self._frames = np.stack(self._frames), []
        return self.judge(frames)

    def judge(self, frames: np.ndarray) -> bool:
        raise NotImplementedError


class KsColumns(_Windowed):
    """As Evidently's data drift, made comparable: Kolmogorov and Smirnov's test of each signal, Bonferroni."""

    def __init__(self, reference: np.ndarray, frames_per_false_alarm: int, window: int = 50) -> None:
        super().__init__(reference, window)
        self._significance = window / frames_per_false_alarm / reference.shape[1]

    def judge(self, frames: np.ndarray) -> bool:
        tests = (stats.ks_2samp(a, b, method="asymp") for a, b in zip(self.reference.T, frames.T, strict=True))
        return any(test.pvalue < self._significance for test in tests)


class WindowedMmd(_Windowed):
    """As alibi-detect's MMD drift: a kernel test of two samples, its threshold from windows drawn frame by frame."""

    DRAWS = 400

    def __init__(self, reference: np.ndarray, frames_per_false_alarm: int, window: int = 50) -> None:
        random = np.random.default_rng(0)
        scale = reference.std(axis=0) + 1e-9
        super().__init__(reference / scale, window)
        self._scale = scale
        chosen = self.reference[random.permutation(len(self.reference))[:250]]
        distances = ((chosen[:, None] - chosen[None]) ** 2).sum(axis=2)
        self._width = float(np.median(distances[distances > 0]))
        self._chosen = chosen
        self._own = float(np.exp(-distances / self._width).mean())
        drawn = [
            self._statistic(self.reference[random.integers(0, len(self.reference), window)]) for _ in range(self.DRAWS)
        ]
        # The tail beyond what was drawn: Gumbel's law by mean and deviation.
        beta = float(np.std(drawn)) * math.sqrt(6) / math.pi
        location = float(np.mean(drawn)) - 0.5772 * beta
        self._limit = max(location + beta * math.log(frames_per_false_alarm / window), quantile(drawn, 99))

    def _statistic(self, frames: np.ndarray) -> float:
        own = np.exp(-((frames[:, None] - frames[None]) ** 2).sum(axis=2) / self._width)
        cross = np.exp(-((frames[:, None] - self._chosen[None]) ** 2).sum(axis=2) / self._width)
        return float(own.mean() + self._own - 2 * cross.mean())

    def judge(self, frames: np.ndarray) -> bool:
        return self._statistic(frames / self._scale) > self._limit
