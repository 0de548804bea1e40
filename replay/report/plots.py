"""Signals drawn as SVG: one small plot each, with a column per frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["COLUMN", "HEIGHT", "Plot", "plot", "time_plot"]

#: Units of the drawing: a frame is one column wide.
COLUMN, HEIGHT, _MARGIN = 10, 48, 5

#: Columns of a plot over time, which has no frames to go by.
_TIME_COLUMNS = 100

#: A change smaller than this share of a signal's size would fill the plot with noise.
_FLAT_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One signal."""

    name: str
    unit: str
    columns: int
    line: str  #: path data; gaps where there is no number
    dots: tuple[tuple[int, float, float], ...]  #: index and place of each number
    threshold: float | None  #: its height in the drawing
    summary: str  #: for those who do not see it

    @property
    def width(self) -> int:
        """Of the drawing."""
        return self.columns * COLUMN


def plot(
    name: str,
    unit: str,
    numbers: Sequence[float | None],
    ids: Sequence[int],
    threshold: float | None = None,
    *,
    places: Sequence[int] | None = None,
    columns: int | None = None,
) -> Plot | None:
    """Draw a number per frame; None where there is none at all.

    Args:
        name: of the signal.
        unit: of the numbers.
        numbers: in the order of the frames; None or not finite where a frame has none.
        ids: of the frames.
        threshold: drawn as a line across, when there is one.
        places: the column of each frame; None: one after the other.
        columns: of the drawing; None: as many as there are frames.
    """
    points = [
        (index, float(number)) for index, number in enumerate(numbers) if number is not None and math.isfinite(number)
    ]
    if not points:
        return None
    scale = _Scale([number for _, number in points], threshold)
    places = range(len(numbers)) if places is None else places
    dots = tuple((index, (places[index] + 0.5) * COLUMN, scale(number)) for index, number in points)
    parts, last = [], -2
    for index, x, y in dots:
        parts.append(f"{'L' if index == last + 1 else 'M'}{x:g} {y:.4g}")
        last = index
    least, most = (choose(points, key=lambda point: point[1]) for choose in (min, max))
    unit_said = f" {unit}" if unit else ""
    summary = (
        f"{name} of {len(points)} frames: least {least[1]:.3g}{unit_said} at frame {ids[least[0]]}, "
        f"most {most[1]:.3g}{unit_said} at frame {ids[most[0]]}, last {points[-1][1]:.3g}{unit_said}"
        + ("" if threshold is None else f"; threshold {threshold:.3g}")
    )
    height = None if threshold is None else scale(threshold)
    return Plot(
        name=name,
        unit=unit,
        columns=len(numbers) if columns is None else columns,
        line=" ".join(parts),
        dots=dots,
        threshold=height,
        summary=summary,
    )


def time_plot(name: str, unit: str, points: Sequence[tuple[int, float]]) -> Plot | None:
    """Draw numbers over time, oldest at the left; None for fewer than two. Times in nanoseconds, ascending."""
    if len(points) < 2:
        return None
    scale = _Scale([number for _, number in points], None)
    begin, span = points[0][0], max(1, points[-1][0] - points[0][0])
    width = _TIME_COLUMNS * COLUMN
    line = " ".join(
        f"{'L' if index else 'M'}{(time - begin) / span * width:.5g} {scale(number):.4g}"
        for index, (time, number) in enumerate(points)
    )
    numbers = [number for _, number in points]
    summary = f"{name} over time: least {min(numbers):.3g}, most {max(numbers):.3g}, last {numbers[-1]:.3g} {unit}"
    return Plot(
        name=name, unit=unit, columns=_TIME_COLUMNS, line=line, dots=(), threshold=None, summary=summary.rstrip()
    )


class _Scale:
    """From a number to a height: the largest at the top; a signal that hardly moves lies in the middle."""

    def __init__(self, numbers: Sequence[float], threshold: float | None) -> None:
        every = [*numbers, *([] if threshold is None else [threshold])]
        low, high = min(every), max(every)
        self._room = max(high - low, _FLAT_SHARE * max(abs(low), abs(high))) or 1.0
        self._base = (low + high - self._room) / 2

    def __call__(self, number: float) -> float:
        share = (number - self._base) / self._room
        return HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN)
