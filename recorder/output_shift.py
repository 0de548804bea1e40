"""Whether the answers of the last frames differ from those of the frames before, beyond chance.

Frames of a video resemble their neighbours, and a test that takes them for independent fires all day. So the unit here
is a window of frames, not a frame: how much windows differ from each other in the reference is measured, and holds
whatever the correlation inside a window. Three figures of a window are tested: the mean of the confidence, its spread,
and the counts of the top-1 classes.

- Mean and spread: Student's t of the new figure against those of the reference's windows.
- Classes: Pearson's chi² of the counts against the pooled reference, divided by its mean over the reference's own
  windows (the design effect of Rao & Scott, 1981). Classes expected less than five times are judged as if expected five
  times: rare classes cannot fire by appearing once.

What correlation reaches from window to window is estimated at lag one, and the number of windows reduced to the
effective one. The tails assume few degrees of freedom (`MAX_FREEDOM`). Each test gets its part of the significance
level (Bonferroni).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["TESTS", "Shift", "ShiftTest", "WindowFigures", "f_tail"]

#: Windows of the reference: with 8 the t test has enough freedom to tell a gross shift, with 32 the gain levels off.
MIN_REFERENCE, MAX_REFERENCE = 8, 32
#: Windows that are judged together besides the newest alone: four halve the noise of the mean.
SUSTAINED = 4
#: Three figures, alone and together.
TESTS = 6
#: Degrees of freedom assumed at most. A window of few independent frames has a skewed mean, and the normal tail would
#: be too thin for it: with this, simulated streams keep the stated rate up to a correlation of .9 from frame to frame.
MAX_FREEDOM = 12.0
#: Effective windows below which nothing is known about how windows differ.
MIN_EFFECTIVE = 4.0
#: Differences of confidence below this mean nothing to anyone, however significant.
CONFIDENCE_RESOLUTION = 0.02
#: Pearson's statistic is only roughly chi² where a class is expected less often than this.
MIN_EXPECTED = 5.0
#: Classes counted in a window; the rest is one more class.
MAX_CLASSES = 64


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """What is kept of a window."""

    frames: int
    mean: float | None  #: of the confidence; None: the answers have none
    spread: float | None  #: its standard deviation
    classes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, answers: Sequence[tuple[float | None, str | None]]) -> WindowFigures:
        """Reduce the (confidence, top-1 class) of a window's frames."""
        numbers = [number for number, _ in answers if number is not None]
        mean = math.fsum(numbers) / len(numbers) if numbers else None
        spread = None
        if mean is not None:
            spread = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        counted = Counter(name for _, name in answers if name is not None)
        return cls(len(answers), mean, spread, dict(counted.most_common(MAX_CLASSES)))


@dataclass(frozen=True, slots=True)
class Shift:
    """A window that differs."""

    what: str  #: "confidence", "confidence-spread" or "classes"
    p: float  #: how probable so large a difference is by chance
    before: float  #: the figure in the reference; of the class that changed most: its share
    now: float
    name: str = ""  #: that class


class ShiftTest:
    """Judges one stream's windows one after the other, each against at most `MAX_REFERENCE` before it.

    Every window is tested alone, for what is sudden, and together with the `SUSTAINED` - 1 before it, for what is small
    and stays. The latest windows join the reference only when they have left that span, and not while they differ: when
    as many in a row as the reference holds differ, they are what is normal now, and become the reference.
    """

    def __init__(self) -> None:
        self._reference: deque[WindowFigures] = deque(maxlen=MAX_REFERENCE)
        self._latest: deque[WindowFigures] = deque(maxlen=SUSTAINED)
        self._shifted: list[WindowFigures] = []

    @property
    def reference_frames(self) -> int:
        """How many frames the reference holds."""
        return sum(window.frames for window in self._reference)

    def judge(self, window: WindowFigures, significance: float) -> Shift | None:
        """Return how the latest windows differ from the reference; None when chance explains it, or little is known.

        Args:
            window: the newest.
            significance: the probability of a false alarm that is accepted, for this window.
        """
        if len(self._reference) < MIN_REFERENCE:
            self._reference.append(window)
            return None
        if len(self._latest) == SUSTAINED:
            self._reference.append(self._latest.popleft())
        self._latest.append(window)
        found = [
            shift
            for span in (1, SUSTAINED)
            if span <= len(self._latest)
            for shift in self._tests(list(self._latest)[-span:])
            if shift is not None and shift.p < significance / TESTS
        ]
        if not found:
            if self._shifted:
                # What differed is over: it shall not become part of what is normal.
                self._shifted.clear()
                self._latest.clear()
                self._latest.append(window)
            return None
        self._shifted.append(window)
        if len(self._shifted) >= len(self._reference):
            self._reference = deque(self._shifted, maxlen=MAX_REFERENCE)
            self._shifted.clear()
            self._latest.clear()
        elif len(self._latest) == SUSTAINED:
            self._latest.popleft()
        return min(found, key=lambda shift: shift.p)

    def _tests(self, latest: Sequence[WindowFigures]) -> tuple[Shift | None, ...]:
        return (
            self._confidence("confidence", lambda window: window.mean, latest),
            self._confidence("confidence-spread", lambda window: window.spread, latest),
            self._classes(latest),
        )

    def _confidence(
        self, what: str, figure: Callable[[WindowFigures], float | None], latest: Sequence[WindowFigures]
    ) -> Shift | None:
        known = [number for past in self._reference if (number := figure(past)) is not None]
        new = [number for window in latest if (number := figure(window)) is not None]
        if len(new) < len(latest) or len(known) < MIN_REFERENCE:
            return None
        before, now = math.fsum(known) / len(known), math.fsum(new) / len(new)
        effective = _effective(known)
        if abs(now - before) < CONFIDENCE_RESOLUTION or effective < MIN_EFFECTIVE:
            return None
        variance = math.fsum((number - before) ** 2 for number in known) / (len(known) - 1)
        # A reference that never moves says nothing about chance below the resolution.
        variance = max(variance, (CONFIDENCE_RESOLUTION / 8) ** 2)
        # Of k windows that resemble each other as those of the reference do, so many count.
        counting = max(1.0, len(new) * effective / len(known))
        f = (now - before) ** 2 / (variance * (1 / counting + 1 / effective))
        return Shift(what, f_tail(f, 1.0, min(effective - 1, MAX_FREEDOM)), before, now)

    def _classes(self, latest: Sequence[WindowFigures]) -> Shift | None:
        pooled, now = _pooled(self._reference), _pooled(latest)
        past = [window.classes for window in self._reference if window.classes]
        total, size = sum(pooled.values()), sum(now.values())
        if len(past) < MIN_REFERENCE or not all(window.classes for window in latest):
            return None
        # Each class that is common enough on its own; all others together, new ones among them.
        each = size / len(latest)
        common = {name: count / total for name, count in pooled.items() if count * each >= MIN_EXPECTED * total}
        most = max(pooled, key=lambda name: (pooled[name], name))
        effective = _effective([counts.get(most, 0) / sum(counts.values()) for counts in past])
        if effective < MIN_EFFECTIVE:
            return None
        statistics = [_pearson(counts, common) for counts in past]
        design = max(1.0, math.fsum(statistics) / len(statistics))
        counting = max(1.0, len(latest) * effective / len(past))
        f = _pearson(now, common) / (design * len(latest) * (1 / counting + 1 / effective))
        share = {name: now.get(name, 0) / size for name in {*common, *now}}
        changed = max(share, key=lambda name: (abs(share[name] - pooled[name] / total), name))
        p = f_tail(f, 1.0, min(effective - 1, MAX_FREEDOM))
        return Shift("classes", p, pooled[changed] / total, share[changed], changed)


def _pooled(windows: Iterable[WindowFigures]) -> Counter[str]:
    pooled: Counter[str] = Counter()
    for window in windows:
        pooled.update(window.classes)
    return pooled


def _pearson(counts: dict[str, int], shares: dict[str, float]) -> float:
    """Pearson's chi² of counts against expected shares; what is in neither of them is one more class."""
    size = sum(counts.values())
    rest_expected = max(0.0, 1.0 - sum(shares.values())) * size
    rest = size - sum(counts.get(name, 0) for name in shares)
    total = (rest - rest_expected) ** 2 / max(rest_expected, MIN_EXPECTED)
    for name, share in shares.items():
        total += (counts.get(name, 0) - share * size) ** 2 / max(share * size, MIN_EXPECTED)
    return total


def _effective(numbers: Sequence[float]) -> float:
    """The number of independent observations that carry as much as these: n (1 - r) / (1 + r), r at lag one."""
    n = len(numbers)
    mean = math.fsum(numbers) / n
    variance = math.fsum((number - mean) ** 2 for number in numbers)
    if variance <= 0:
        return float(n)
    lagged = math.fsum((a - mean) * (b - mean) for a, b in pairwise(numbers))
    # The estimate is low by about 1/n: corrected, and never taken as negative.
    r = min(max(0.0, lagged / variance + 1 / n), 0.99)
    return n * (1 - r) / (1 + r)


def f_tail(f: float, d1: float, d2: float) -> float:
    """P(F > f) for d1 and d2 degrees of freedom: the regularised incomplete beta function by Lentz's fraction."""
    if f <= 0:
        return 1.0
    x, a, b = d2 / (d2 + d1 * f), d2 / 2, d1 / 2
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)  # beyond what a float can tell from none, or from certain
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_fraction(1 - x, b, a)
    return _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away(1.0 + term * d)
            c = _away(1.0 + term / c)
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-12:
            break
    return min(1.0, math.exp(log_front) * fraction / a)


def _away(number: float) -> float:
    """Lentz's fraction divides by its terms; one that is zero is moved off it."""
    return number if abs(number) > 1e-300 else 1e-300
