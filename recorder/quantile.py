"""A quantile of a stream of positive numbers in constant memory, that follows slow changes."""

from __future__ import annotations

import math

__all__ = ["StreamingQuantile"]

#: Neighbouring bins differ by this factor, so an estimate is off by at most 2 %: less than two runs of anything differ.
BIN_RATIO = 1.04
_LOG_RATIO = math.log(BIN_RATIO)


class StreamingQuantile:
    """A histogram with logarithmic bins, as in DDSketch (Masson et al., 2019), that forgets.

    Exact within `BIN_RATIO` whatever the distribution, also with two humps, where P² (five markers) is not. When
    ``memory`` numbers have come, all bins are halved: what came long ago fades.

    Args:
        quantile: which, between 0 and 1.
        memory: how many numbers are kept at full weight.
    """

    def __init__(self, quantile: float, memory: int) -> None:
        self.count = 0
        self._quantile = quantile
        self._memory = memory
        self._bins: dict[int, float] = {}
        self._total = 0.0

    def add(self, number: float) -> None:
        """Take in a number; what is not above zero counts as the smallest there is."""
        key = math.floor(math.log(number) / _LOG_RATIO) if number > 0 else -10_000
        self._bins[key] = self._bins.get(key, 0.0) + 1.0
        self._total += 1.0
        self.count += 1
        if self._total > 2 * self._memory:
            self._bins = {key: weight / 2 for key, weight in self._bins.items() if weight > 2**-10}
            self._total = sum(self._bins.values())

    def value(self) -> float:
        """Return the estimate, not below the quantile of the numbers; 0 before the first."""
        wanted = self._quantile * self._total
        seen = 0.0
        for key in sorted(self._bins):
            seen += self._bins[key]
            if seen >= wanted:
                return float(BIN_RATIO ** (key + 1))
        return 0.0
