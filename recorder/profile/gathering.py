"""The windows that a profile learns from: of hours of frames so many as fit into memory, evenly over all of them."""

from __future__ import annotations

import numpy as np

from recorder.cause.model import WINDOW_FRAMES
from recorder.cause.views import Views

__all__ = ["Gathered", "most_windows"]

#: Of all cameras together, and of each at least: one takes up to 2 MB.
_MOST_WINDOWS, _LEAST_WINDOWS = 500, 32


def most_windows(cameras: int) -> int:
    """How many windows of each camera are kept."""
    return max(_LEAST_WINDOWS, _MOST_WINDOWS // cameras)


class Gathered:
    """The windows of one camera, oldest first."""

    def __init__(self) -> None:
        """None yet."""
        self.windows: list[Views] = []
        self._begun: list[Views] = []
        self._seen = 0  #: windows so far
        self._every = 1  #: of so many windows, one is kept

    def add(self, frame: Views, most: int) -> None:
        """Take in one frame; with ``most`` windows, every second one goes."""
        self._begun.append(frame)
        if len(self._begun) < WINDOW_FRAMES:
            return
        if self._seen % self._every == 0:
            self.windows.append(_joined(self._begun))
        self._begun.clear()
        self._seen += 1
        while len(self.windows) > most:
            del self.windows[1::2]
            self._every *= 2


def _joined(parts: list[Views]) -> Views:
    first = parts[0]
    return Views(
        np.concatenate([part.wide for part in parts]),
        np.concatenate([part.detail for part in parts]),
        first.scale,
        first.width,
    )
