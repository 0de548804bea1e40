"""What probes cost, in runs of the model: said beforehand, counted while they run, held against the budget."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from replay.probe import baseline, skew, steadiness, where
from replay.probe.attribution import attribution_runs

__all__ = ["Counter", "runs_of"]


def runs_of(name: str, frames: int, *, of_a_model: bool) -> int:
    """How many runs a probe takes.

    Args:
        name: of the probe.
        frames: that are probed.
        of_a_model: whether a model is asked, and not a whole pipeline.
    """
    if name == "attribution":
        return attribution_runs(frames) if of_a_model else 0
    fixed = {
        "calibration": 0,
        "random-input": baseline.RANDOM_INPUTS,
        "object-hidden": where.HIDING,
        "background": where.BACKGROUND,
        "occlusion": where.OCCLUSION,
        "channel-order": skew.CHANNELS,
        "input-consistency": steadiness.TINY_CHANGES,
        "normalisation": skew.NORMALISATION if of_a_model else 0,
        "batch": skew.BATCH if of_a_model else 0,
    }
    if name in fixed:
        return frames * fixed[name]
    return frames * len(next(each for each in steadiness.NUISANCES if each.name == name).amounts)


class Counter:
    """Counts runs and time, and says what is affordable."""

    def __init__(
        self,
        budget_seconds: float,
        progress: Callable[[int, int], None] | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        """The clock starts now.

        Args:
            budget_seconds: for all probes together.
            progress: called with (runs done, runs in all), once it is known how many there are.
            announce: called once with what it will cost.
        """
        self._budget_seconds, self._progress, self._announce = budget_seconds, progress, announce
        self._started = self._last = time.monotonic()
        self._each_seconds: list[float] = []
        self._all = 0
        self.done = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    @property
    def of_one_seconds(self) -> float:
        """The usual time of a run; the first one loaded the model."""
        told = self._each_seconds[1:][-50:] or self._each_seconds
        return float(np.median(told)) if told else 0.0

    def count(self, runs: int = 1) -> None:
        """So many runs have been made since the last call."""
        now = time.monotonic()
        self._each_seconds.append((now - self._last) / runs)
        self._last = now
        self.done += runs
        if self._progress is not None and self._all:
            self._progress(min(self.done, self._all), self._all)

    def begin(self, runs: int, frames: int, left_out: int = 0) -> None:
        """Say what is to come. Runs so far were of unchanged frames."""
        self._all = self.done + runs
        if self._announce is not None:
            fewer = f" ({left_out} more are left out: the budget has no time for them)" if left_out else ""
            self._announce(
                f"{runs} runs on {frames} frame{'' if frames == 1 else 's'}{fewer}, "
                f"about {runs * self.of_one_seconds:.0f} s; budget {self._budget_seconds:g} s"
            )

    def affords(self, runs: int) -> bool:
        """Whether so many runs more end within the budget."""
        return self.seconds + runs * self.of_one_seconds <= self._budget_seconds

    def has_spent(self, share: float) -> bool:
        """Whether that share of the budget is used up."""
        return self.seconds > share * self._budget_seconds
