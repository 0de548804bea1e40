"""Streams of known memory, and a reference learnt once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from recorder.drift import Reference

Array = npt.NDArray[np.float64]

NAMES = ("luminance", "contrast", "sharpness_x", "noise", "confidence")
_MIDDLE = np.array([0.4, 0.2, 0.0, 0.0, 0.7])
_SPREAD = np.array([0.05, 0.05, 0.3, 0.2, 0.1])


def stream(frames: int, memory: float, seed: int, shift: float = 0.0, since: int = 0) -> Array:
    """(frames, 5): signals whose scores are normal with that memory; luminance falls by so many deviations."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(frames, len(NAMES))) * np.sqrt(1 - memory**2)
    state = random.normal(size=len(NAMES))
    for row in scores:
        state = memory * state + row
        row[:] = state
    scores[since:, 0] -= shift
    signals = _MIDDLE + _SPREAD * scores
    signals[:, 2:4] = np.exp(signals[:, 2:4] - 5)
    return signals


def vectors(frames: int, seed: int, shift: float = 0.0) -> Array:
    """(frames, 16) embeddings in three directions and a little noise."""
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    within = random.normal(size=(frames, 3)) @ directions[:3]
    return within + 0.1 * random.normal(size=(frames, 16)) + shift * directions[7]


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Of 500 frames of memory .5, with embeddings and two classes."""
    classes = [str(number // 7 % 2) for number in range(500)]
    return Reference.fit(stream(500, 0.5, 1), NAMES, vectors(500, 1), frames_per_false_alarm=10_000, classes=classes)
