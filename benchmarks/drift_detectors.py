"""The detectors that `benchmarks.drift` compares, each asked for the frames at which streams raise an alarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.drift_streams import NAMES
from benchmarks.libraries import Case, Library
from benchmarks.rivals import KsColumns, PlainCusum, Rival, WindowedMmd
from recorder.drift import Departure, Reference, Watcher

__all__ = ["Detector", "Ours", "Own", "PROMISED", "RIVALS"]

#: Frames for each false alarm.
PROMISED = 10_000


class Ours:
    """The product's watcher, as the `drift` trigger uses it."""

    name = "this recorder"

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self._names = names
        self.onsets: list[dict[int, int]] = []  #: of each stream, by the alarm's frame

    def alarms(self, cases: Sequence[Case]) -> list[list[int]]:
        """Return the frames of each stream at which it raised an alarm."""
        found = []
        self.onsets = []
        for reference, stream in cases:
            fitted = Reference.fit(reference, self._names, frames_per_false_alarm=PROMISED)
            watcher, departure = Watcher(fitted.streams[""], self._names), Departure()
            onsets: dict[int, int] = {}
            for number, row in enumerate(stream):
                watcher.update(number, row)
                if departure.begins(watcher.excess("drift", PROMISED)):
                    onsets[number] = watcher.alarm("drift", PROMISED).onset
            self.onsets.append(onsets)
            found.append(list(onsets))
        return found


class Own:
    """A rival written for the page."""

    def __init__(self, name: str, make: Callable[[np.ndarray, int], Rival]) -> None:
        self.name = name
        self._make = make

    def alarms(self, cases: Sequence[Case]) -> list[list[int]]:
        """Return the frames of each stream at which it raised an alarm."""
        made = ((self._make(reference, PROMISED), stream) for reference, stream in cases)
        return [[number for number, row in enumerate(stream) if rival.update(row)] for rival, stream in made]


Detector = Ours | Own | Library
RIVALS = (
    Own("CUSUM, independent frames", PlainCusum),
    Own("KS per signal, windows of 50", KsColumns),
    Own("MMD, windows of 50", WindowedMmd),
)
