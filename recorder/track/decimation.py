"""From rows to intervals of a second, of ten and of sixty: minimum, mean, maximum and count of every signal.

Pure bookkeeping without clock or files. A closed interval of one level is a part of the next level's open one, so a
frame costs the same however long the history is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["Decimator", "Interval", "LEVELS", "Level"]

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Level:
    """Intervals of one length."""

    seconds: int
    reach_seconds: float  #: how far back they are kept; ``history_seconds`` may cut it shorter


#: Fine near the alarm, coarse far from it; each is a multiple of the one before. The last reaches as far as it is told.
LEVELS = (Level(1, 600.0), Level(10, 3_600.0), Level(60, 86_400.0))


@dataclass(slots=True)
class Interval:
    """What happened to one stream within an interval of time; of one frame alone to begin with."""

    stream: int  #: index in the table of streams
    seconds: int  #: length; 0: a single frame
    start_ns: int  #: monotonic, a multiple of the length
    time_ns: int  #: wall clock of the first frame
    first_frame: int
    last_row: int  #: number of the last row in it
    frames: int
    raised: int  #: frames through which an exception passed
    low: Numbers
    total: Numbers
    high: Numbers
    count: npt.NDArray[np.int64]  #: frames that had the signal

    @classmethod
    def of_frame(
        cls,
        stream: int,
        number: int,
        frame: int,
        time_ns: int,
        monotonic_ns: int,
        raised: bool,
        values: npt.NDArray[np.float32],
    ) -> Self:
        """Make one of a single frame. Values that are not finite do not count."""
        wide = values.astype(np.float64)
        there = np.isfinite(wide)
        return cls(
            stream=stream,
            seconds=0,
            start_ns=monotonic_ns,
            time_ns=time_ns,
            first_frame=frame,
            last_row=number,
            frames=1,
            raised=int(raised),
            low=np.where(there, wide, np.inf),
            total=np.where(there, wide, 0.0),
            high=np.where(there, wide, -np.inf),
            count=there.astype(np.int64),
        )

    @property
    def mean(self) -> Numbers:
        """Mean of each signal, between its minimum and maximum; NaN where no frame had it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.total / self.count
        return np.where(self.count > 0, np.clip(mean, self.low, self.high), np.nan)

    def begin(self, seconds: int) -> Interval:
        """Return an interval of a length that so far holds this one alone."""
        width = seconds * 10**9
        return Interval(
            self.stream,
            seconds,
            self.start_ns // width * width,
            self.time_ns,
            self.first_frame,
            self.last_row,
            self.frames,
            self.raised,
            self.low.copy(),
            self.total.copy(),
            self.high.copy(),
            self.count.copy(),
        )

    def absorb(self, part: Interval) -> None:
        """Take in what came after it."""
        self.last_row = max(self.last_row, part.last_row)
        self.frames += part.frames
        self.raised += part.raised
        np.minimum(self.low, part.low, out=self.low)
        np.maximum(self.high, part.high, out=self.high)
        self.total += part.total
        self.count += part.count


class Decimator:
    """The open intervals of every stream.

    Args:
        levels: lengths in seconds, ascending, each a multiple of the one before.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        self._levels = levels
        self._open: dict[tuple[int, int], Interval] = {}

    def add(self, part: Interval, level: int = 0) -> list[Interval]:
        """Take in a frame, or at a higher ``level`` a closed interval of the one below; return what that closed.

        What comes late, after its interval was closed, counts in the open one: nothing is opened again, nothing lost.
        """
        if level == len(self._levels):
            return []
        seconds, key = self._levels[level], (part.stream, level)
        current, closed = self._open.get(key), []
        if current is not None and part.start_ns >= current.start_ns + seconds * 10**9:
            closed = [current, *self.add(current, level + 1)]
            current = None
        if current is None:
            self._open[key] = part.begin(seconds)
        else:
            current.absorb(part)
        return closed

    def unfinished(self) -> list[Interval]:
        """Return every stream's open intervals as they would stand if they were closed now."""
        found = []
        for stream in {stream for stream, _ in self._open}:
            below: Interval | None = None
            for level, seconds in enumerate(self._levels):
                current = self._open.get((stream, level))
                if current is None and below is None:
                    continue
                if current is None and below is not None:
                    current = below.begin(seconds)
                elif current is not None:
                    current = current.begin(seconds)
                    if below is not None:
                        current.absorb(below)
                if current is not None:
                    found.append(current)
                    below = current
        return found
