"""A window of answers against the reference's: which classes, and how sure.

Frames of a video resemble their neighbours: a window of n frames is worth fewer independent ones, by a share that is
estimated on the reference. With so many, and as many as the reference is worth, the tests' laws hold also for small
windows and slices, which otherwise always seem to differ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.output_shift import CONFIDENCE_RESOLUTION, MIN_EXPECTED, Shift

__all__ = ["AnswerNormal", "bimodality", "chi_squared_tail", "independent_share", "kolmogorov_tail", "learn_answers"]

Array = npt.NDArray[np.float64]

#: Quantiles that are kept of the confidence: a step of a 64th is less than a window of a hundred frames can tell.
QUANTILES = 65
#: Classes told apart; the rest is one more.
MAX_CLASSES = 64
#: Windows worth fewer independent frames are not tested.
MIN_INDEPENDENT = 4.0
#: Sarle's coefficient of a uniform distribution: what lies above has two humps, or is very skew.
TWO_HUMPS = 5 / 9
#: Tests of a window, which share its significance.
TESTS = 2


@dataclass(frozen=True, slots=True)
class AnswerNormal:
    """What a stream's answers are like.

    Attributes:
        classes: how often each class was the answer; "" stands for all that are rare.
        class_share: independent frames that one frame is worth, as to classes.
        quantiles: (65) of the confidence; empty: the answers have none.
        confidence_share: as ``class_share``, as to confidence.
        humps: Sarle's coefficient of the confidence.
        frames: how many it was learnt from.
    """

    classes: Mapping[str, int]
    class_share: float
    quantiles: Array
    confidence_share: float
    humps: float
    frames: int

    def judge(self, window: Sequence[tuple[float | None, str | None]], significance: float) -> Shift | None:
        """Return how a window differs from the reference; None when chance explains it.

        Args:
            window: (confidence, top-1 class) of its frames.
            significance: the probability of a false alarm that is accepted, for this window.
        """
        found = [
            shift
            for shift in (self._classes(window), self._confidence(window))
            if shift is not None and shift.p < significance / TESTS
        ]
        return min(found, key=lambda shift: shift.p, default=None)

    def _classes(self, window: Sequence[tuple[float | None, str | None]]) -> Shift | None:
        """The G-test of homogeneity, in independent frames."""
        # That a detector found nothing is no class of the track, from which references are learnt.
        counts = Counter(name for _, name in window if name not in (None, "nothing"))
        size, total = sum(counts.values()), sum(self.classes.values())
        worth, known = size * self.class_share, total * self.class_share
        if not total or worth < MIN_INDEPENDENT or known < MIN_INDEPENDENT:
            return None
        named = {name: count / total for name, count in self.classes.items() if name}
        # Each class that is common enough on its own; all others together, new ones among them.
        common = [name for name, share in named.items() if share * worth >= MIN_EXPECTED]
        table = [(counts[name] / size, named[name]) for name in common]
        rest = (1 - sum(now for now, _ in table), 1 - sum(before for _, before in table))
        g = 0.0
        for now, before in (*table, rest):
            # The rest may be expected less often than the law allows: half a frame more in both.
            pooled = (max(now, 0.0) * worth + max(before, 0.0) * known + 0.5) / (worth + known + 0.5)
            for share, frames in ((max(now, 0.0), worth), (max(before, 0.0), known)):
                if share > 0:
                    g += 2 * frames * share * math.log(share / pooled)
        changed = max({*named, *counts}, key=lambda name: (abs(counts[name] / size - named.get(name, 0.0)), name))
        p = chi_squared_tail(max(g, 0.0), max(1, len(common)))
        return Shift("classes", p, named.get(changed, 0.0), counts[changed] / size, changed)

    def _confidence(self, window: Sequence[tuple[float | None, str | None]]) -> Shift | None:
        """Kolmogorov and Smirnov's test, in independent frames."""
        numbers = np.sort([number for number, _ in window if number is not None])
        if not len(self.quantiles) or len(numbers) < len(window):
            return None
        worth, known = len(numbers) * self.confidence_share, self.frames * self.confidence_share
        before, now = float(np.median(self.quantiles)), float(np.median(numbers))
        if worth < MIN_INDEPENDENT or known < MIN_INDEPENDENT:
            return None
        # The window moved towards the reference by what means nothing to anyone, before they are compared.
        moved = numbers + np.clip(before - now, -CONFIDENCE_RESOLUTION, CONFIDENCE_RESOLUTION)
        levels = np.interp(moved, self.quantiles, np.linspace(0, 1, len(self.quantiles)))
        steps = np.arange(len(numbers) + 1) / len(numbers)
        # A quantile curve of 65 points is known to half a step.
        distance = max(float((steps[1:] - levels).max()), float((levels - steps[:-1]).max())) - 0.5 / (QUANTILES - 1)
        effective = worth * known / (worth + known)
        p = kolmogorov_tail(distance, effective)
        two = bimodality(numbers) > TWO_HUMPS >= self.humps
        return Shift("confidence-humps" if two else "confidence", p, before, now)


def learn_answers(confidence: Array, classes: Sequence[str | None]) -> AnswerNormal | None:
    """Learn what answers are like; None where the frames have none.

    Args:
        confidence: (n), NaN where there is none.
        classes: (n).
    """
    told = [name for name in classes if name is not None]
    numbers = confidence[np.isfinite(confidence)]
    quantiles = np.empty(0)
    if len(numbers) >= 0.9 * len(confidence) and len(numbers) and np.ptp(numbers) > 0:
        quantiles = np.quantile(numbers, np.linspace(0, 1, QUANTILES))
    if len(told) < 0.9 * len(classes) or not told:
        told = []
    if not told and not len(quantiles):
        return None
    counted = Counter(told)
    kept = dict(counted.most_common(MAX_CLASSES))
    if len(counted) > len(kept):
        kept[""] = len(told) - sum(kept.values())
    shares = [independent_share(np.array([each == name for each in told], np.float64)) for name in list(kept)[:8]]
    return AnswerNormal(
        classes=kept,
        class_share=min(shares, default=1.0),
        quantiles=quantiles,
        confidence_share=independent_share(numbers) if len(quantiles) else 1.0,
        humps=bimodality(numbers) if len(quantiles) else 0.0,
        frames=len(confidence),
    )


def independent_share(numbers: Array) -> float:
    """How many independent frames one is worth: one over the autocorrelation time.

    Summed up to where pairs of neighbouring autocorrelations stop being positive (Geyer, 1992).
    """
    n = len(numbers)
    centred = numbers - numbers.mean() if n else numbers
    energy = float(centred @ centred)
    if n < 4 or energy <= 1e-12:
        return 1.0
    length = 1 << (2 * n - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, length)) ** 2
    correlation = np.fft.irfft(spectrum, length)[: n // 2] / energy
    time = 1.0
    for lag in range(1, len(correlation) - 1, 2):
        pair = float(correlation[lag] + correlation[lag + 1])
        if pair <= 0:
            break
        time += 2 * pair
    return 1.0 / min(max(time, 1.0), n / 2)


def bimodality(numbers: Array) -> float:
    """Sarle's coefficient, (skewness² + 1) / kurtosis: 1/3 of a normal, 5/9 of a uniform law, 1 of two points."""
    if len(numbers) < 4:
        return 0.0
    centred = numbers - numbers.mean()
    variance = float((centred**2).mean())
    if variance <= 1e-12:
        return 0.0
    skewness, kurtosis = float((centred**3).mean()) / variance**1.5, float((centred**4).mean()) / variance**2
    return float((skewness**2 + 1) / kurtosis)


def kolmogorov_tail(distance: float, frames: float) -> float:
    """P(D > distance) for so many frames, with Stephens' correction for few (1970)."""
    scaled = (math.sqrt(frames) + 0.12 + 0.11 / math.sqrt(frames)) * distance
    if scaled < 0.2:
        return 1.0
    total = sum((1.0 if k % 2 else -1.0) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * total))


def chi_squared_tail(value: float, freedom: int) -> float:
    """P(X > value): the upper regularised incomplete gamma function, by its series or Lentz's fraction."""
    a, x = freedom / 2, value / 2
    if x <= 0:
        return 1.0
    log_front = -x + a * math.log(x) - math.lgamma(a)
    if x < a + 1:
        term = total = 1 / a
        for n in range(1, 500):
            term *= x / (a + n)
            total += term
            if term < total * 1e-14:
                break
        return max(0.0, 1 - total * math.exp(log_front))
    b = x + 1 - a
    c, d = 1e300, 1 / b
    fraction = d
    for n in range(1, 500):
        step = -n * (n - a)
        b += 2
        d = 1 / (step * d + b)
        c = b + step / c
        fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return math.exp(log_front) * fraction
