"""A stream compared with its reference, frame by frame, in constant time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.drift.calibration import ALLOWANCE, STEP_CAP
from recorder.drift.moments import CLIP, EWMA_WEIGHTS
from recorder.drift.normal import Normal
from recorder.drift.onset import change_point

__all__ = ["Alarm", "Departure", "Watcher"]

Array = npt.NDArray[np.float64]

#: Frames among which the onset is looked for; an older one is said to be older.
MEMORY_FRAMES = 512
#: Scores that an alarm names.
MAX_SHIFTS = 8
#: A CUSUM is held below so many times its threshold at this rate, so that it comes back when the stream does.
CEILING, CEILING_FRAMES = 2.0, 1e5
#: A stream that stays below this share of its thresholds for so many frames is back.
CALM, CALM_FRAMES = 0.5, 100


@dataclass(frozen=True, slots=True)
class Alarm:
    """A stream that has left its reference.

    Attributes:
        detector: which one found it: "prewhitened/image/ewma" and so on.
        value: its statistic.
        threshold: what that exceeded.
        onset: the frame since when, by the likeliest change point.
        onset_is_earlier: whether the onset lies at the oldest frame remembered, or before.
        frames_since: how many frames of the stream ago that is.
        shifts: the scores that moved most since then, with how many standard deviations, largest first.
    """

    detector: str
    value: float
    threshold: float
    onset: int
    onset_is_earlier: bool
    frames_since: int
    shifts: tuple[tuple[str, float], ...]


class Departure:
    """Whether a stream is away from its reference: it leaves once, until it has come back for a while."""

    __slots__ = ("_calm", "is_away")

    def __init__(self) -> None:
        self.is_away = False
        self._calm = 0

    def begins(self, excess: float) -> bool:
        """Take in a frame's `Watcher.excess`; say whether the stream has just left."""
        if not self.is_away:
            self._calm = 0
            self.is_away = excess > 1.0
            return self.is_away
        self._calm = self._calm + 1 if excess < CALM else 0
        self.is_away = self._calm < CALM_FRAMES
        return False


class Watcher:
    """Watches one stream.

    Args:
        normal: its reference.
        names: the signals that `update` is given, in their order.
    """

    def __init__(self, normal: Normal, names: Sequence[str]) -> None:
        self.normal = normal
        self._names = tuple(names)
        scores, moments = normal.scores, normal.moments
        self._columns = scores.columns(names)
        self._lacks = self._columns < 0 if (self._columns < 0).any() else None
        self._mean, self._inverse = moments.mean, 1 / moments.scale
        m, edges = scores.size, np.cumsum([0, *(part.size for part in scores.parts)])
        self._starts = np.concatenate([edges[:-1], edges[:-1] + m])
        self._sizes = np.tile(np.diff(edges), 2).astype(np.float64)
        self._memory, self._short = moments.memory, 1 / np.sqrt(1 - moments.memory**2)
        self._whitening = np.zeros((2 * m, 2 * m))
        self._whitening[:m, :m], self._whitening[m:, m:] = moments.whitening
        self._gain = moments.gain.reshape(-1)
        self._weights = np.repeat(EWMA_WEIGHTS, m)
        self._level, self._spread = moments.level.reshape(-1), moments.spread.reshape(-1)
        self._pair = np.zeros((2, 2 * m))
        self._before = np.zeros(m)
        self._average = np.zeros(2 * m)
        self._sums = np.zeros(len(self._starts))
        self._zero_at = np.zeros(len(self._starts), np.int64)
        self._ceiling = self._sum_ceiling()
        self._limits: dict[tuple[str, float], tuple[npt.NDArray[np.int64], Array]] = {}
        self._single = scores.singles.stop
        self._past = np.zeros((MEMORY_FRAMES, m), np.float32)
        self._frames = np.zeros(MEMORY_FRAMES, np.int64)
        self.seen = 0
        self.statistics = np.zeros(len(normal.detectors))  #: in the order of `Normal.detectors`

    def update(self, frame: int, signals: npt.NDArray[np.floating], embedding: Array | None = None) -> None:
        """Take in a frame.

        What is missing (NaN) counts as what the frame before lets expect.

        Args:
            frame: its number.
            signals: (k), in the order of the names given.
            embedding: (d), where there is one.
        """
        scores = self.normal.scores
        values = signals[self._columns].astype(np.float64)
        if self._lacks is not None:
            values[self._lacks] = np.nan
        expected = self._memory * self._before
        z = (scores.of_one(values, embedding) - self._mean) * self._inverse
        missing = np.isnan(z)
        if missing.any():
            z = np.where(missing, expected, z)
        z = np.minimum(np.maximum(z, -CLIP), CLIP)
        m = len(z)
        if not self.seen:
            expected = self._memory * z  # nothing was before the first frame
        pair = self._pair
        pair[0, :m] = z
        pair[0, m:] = (z - expected) * self._short
        self._average += self._weights * (pair[0] - self._average)
        np.multiply(self._average, self._gain, out=pair[1])
        white = pair @ self._whitening
        squares = np.add.reduceat(white * white, self._starts, axis=1) / self._sizes
        steps = np.minimum((np.sqrt(squares[0]) - self._level) / self._spread, STEP_CAP) - ALLOWANCE
        self._sums = np.minimum(np.maximum(self._sums + steps, 0.0), self._ceiling)
        place = self.seen % MEMORY_FRAMES
        self._past[place] = z
        self._frames[place] = frame
        self.seen += 1
        self._zero_at[self._sums <= 0.0] = self.seen
        self._before = z
        parts = len(self._starts)
        statistics = self.statistics
        statistics[:parts] = squares[1]
        statistics[parts : 2 * parts] = self._sums
        if self._single:
            alone = np.abs(pair[1])
            statistics[-2] = alone[: self._single].max()
            statistics[-1] = alone[m : m + self._single].max()

    def excess(self, group: str, frames_per_false_alarm: float) -> float:
        """How many times its threshold the detector of a group reaches that is nearest to it; 0: there are none."""
        numbers, limits = self._limit(group, frames_per_false_alarm)
        if not len(limits):
            return 0.0
        return float((self.statistics[numbers] / limits).max())

    def alarm(self, group: str, frames_per_false_alarm: float) -> Alarm:
        """Describe what the group's detector that is farthest beyond its threshold has found."""
        numbers, limits = self._limit(group, frames_per_false_alarm)
        farthest = int((self.statistics[numbers] / limits).argmax())
        number = int(numbers[farthest])
        past, frames = self._remembered()
        since = self._since(number, past)
        labels, shift = self.normal.scores.labels, past[since:].mean(axis=0)
        order = np.argsort(-np.abs(shift))[:MAX_SHIFTS]
        return Alarm(
            detector=self.normal.detectors[number],
            value=float(self.statistics[number]),
            threshold=float(limits[farthest]),
            onset=int(frames[since]),
            onset_is_earlier=since == 0 and self.seen > len(past),
            frames_since=len(past) - since,
            shifts=tuple((labels[each], round(float(shift[each]), 2)) for each in order if abs(shift[each]) >= 1.0),
        )

    def _since(self, number: int, past: Array) -> int:
        """Where in the memory the change began."""
        parts = len(self._starts)
        if parts <= number < 2 * parts:
            # A CUSUM last stood at zero where the change began (Page, 1954).
            return int(np.clip(self._zero_at[number - parts] - (self.seen - len(past)), 0, len(past) - 1))
        m = self.normal.scores.size
        if number >= 2 * parts:
            treatment = number - 2 * parts
            alone = np.abs(self._average * self._gain)[treatment * m : treatment * m + self._single]
            chosen = slice(int(alone.argmax()), int(alone.argmax()) + 1)
        else:
            start = int(self._starts[number] % m)
            chosen = slice(start, start + int(self._sizes[number]))
        return change_point(past[:, chosen], self._memory[chosen], self.normal.moments.whitening[1][chosen, chosen])

    def _remembered(self) -> tuple[Array, npt.NDArray[np.int64]]:
        """What is remembered of the stream, oldest first."""
        if self.seen <= MEMORY_FRAMES:
            return self._past[: self.seen].astype(np.float64), self._frames[: self.seen]
        turn = self.seen % MEMORY_FRAMES
        return np.roll(self._past, -turn, axis=0).astype(np.float64), np.roll(self._frames, -turn)

    def _limit(self, group: str, frames_per_false_alarm: float) -> tuple[npt.NDArray[np.int64], Array]:
        """The group's detectors, and their thresholds."""
        known = self._limits.get((group, frames_per_false_alarm))
        if known is None:
            tail = self.normal.tails.get(group)
            limits = np.empty(0) if tail is None else tail.threshold(frames_per_false_alarm)
            known = self._limits[group, frames_per_false_alarm] = (self.normal.group(group), limits)
        return known

    def _sum_ceiling(self) -> Array:
        parts = len(self._starts)
        return CEILING * self.normal.tails["drift"].threshold(CEILING_FRAMES)[parts : 2 * parts]
