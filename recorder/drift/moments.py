"""What a reference says of its scores: means, spreads, memory from frame to frame, and the detectors' scales.

Everything here works on a batch of references at once, since the calibration estimates a hundred simulated ones.
Axes: ``B`` references, ``n`` frames, ``m`` scores.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["EWMA_WEIGHTS", "Moments", "Part", "estimate", "residuals", "standardised"]

Array = npt.NDArray[np.float64]

#: Scores count at most so many standard deviations: one odd frame is no drift, and must not look like one for long.
CLIP = 5.0
#: Weight of the newest frame in the moving averages, raw and prewhitened. A raw average must be longer than the
#: stream's own memory to average anything; what a sudden shift leaves after prewhitening is short.
EWMA_WEIGHTS = (0.05, 0.2)
#: Memory from frame to frame is estimated up to here; a camera on a wall at 30 frames a second reaches .99.
MAX_MEMORY = 0.995
#: Least and most share of the identity in a covariance: few independent frames say little about directions.
MIN_SHRINKAGE, MAX_SHRINKAGE = 0.02, 0.9


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring scores that are judged together."""

    name: str  #: "image", "answer", "embedding" or "signals"
    size: int


@dataclass(frozen=True, slots=True)
class Moments:
    """Estimated of one reference, or of B; then every array has a leading axis.

    Attributes:
        mean: (m) of the scores.
        scale: (m) their standard deviations, never below the scores' resolution.
        memory: (m) correlation of a frame with the next.
        whitening: (2, m, m) block-diagonal by part: raw and prewhitened scores times it have unit covariance.
        gain: (2, m) one over the standard deviation of a moving average of each score.
        level: (2, P) mean of a part's Mahalanobis distance; of a reference that was learnt, raised by what it does not
            know (`recorder.drift.calibration`).
        spread: (2, P) its standard deviation.
    """

    mean: Array
    scale: Array
    memory: Array
    whitening: Array
    gain: Array
    level: Array
    spread: Array

    def one(self, index: int) -> Moments:
        """Return one of a batch."""
        return Moments(*(getattr(self, each.name)[index] for each in dataclasses.fields(self)))


def standardised(scores: Array, mean: Array, scale: Array) -> Array:
    """Scores as standard deviations from the mean, clipped."""
    return np.clip((scores - mean) / scale, -CLIP, CLIP)


def residuals(z: Array, before: Array, memory: Array) -> Array:
    """What the frame before does not explain, in standard deviations of that: AR(1) prewhitening."""
    kept: Array = (z - memory * before) / np.sqrt(1 - memory * memory)
    return kept


def estimate(scores: Array, follows: npt.NDArray[np.bool_], resolution: Array, parts: tuple[Part, ...]) -> Moments:
    """Estimate the moments of B references.

    The memory's estimate is low by about (1 + 4 r) / n (Kendall, 1954) and corrected. Covariances are shrunk towards
    the identity by m / (m + independent frames), where n frames of memory r are worth n (1 - r) / (1 + r).

    Args:
        scores: (B, n, m), finite.
        follows: (n) whether a frame is the next one after the row before it.
        resolution: (m) differences below it mean nothing.
        parts: which scores belong together; their sizes add up to m.
    """
    _, n, m = scores.shape
    mean = scores.mean(axis=1)
    deviation = scores.std(axis=1)
    scale = np.maximum(deviation, resolution)
    z = standardised(scores, mean[:, None], scale[:, None])
    now, before = z[:, 1:][:, follows[1:]], z[:, :-1][:, follows[1:]]
    energy = np.maximum((before * before).sum(axis=1), 1e-12)
    memory = (now * before).sum(axis=1) / energy
    memory = np.clip(memory + (1 + 4 * memory) / n, 0.0, MAX_MEMORY)
    prewhitened = residuals(now, before, memory[:, None])
    independent = n * (1 - memory) / (1 + memory)
    whitening = np.zeros((len(scores), 2, m, m))
    level, spread = (np.empty((len(scores), 2, len(parts))) for _ in range(2))
    start = 0
    for number, part in enumerate(parts):
        span = slice(start, start + part.size)
        worth = np.median(independent[:, span], axis=1)
        for treatment, (each, frames) in enumerate(((z, worth), (prewhitened, np.full_like(worth, n)))):
            own = each[:, :, span]
            factor = _whitening(own, frames)
            whitening[:, treatment, span, span] = factor
            distance = np.sqrt(((own @ factor) ** 2).sum(axis=2) / part.size)
            level[:, treatment, number] = distance.mean(axis=1)
            spread[:, treatment, number] = np.maximum(distance.std(axis=1), 0.05)
        start += part.size
    raw, short = EWMA_WEIGHTS
    carried = (1 - raw) * memory
    gain = np.stack(
        [
            # The variance of a moving average of an AR(1) process.
            1 / np.sqrt(raw / (2 - raw) * (1 + 2 * carried / (1 - carried))),
            np.broadcast_to(1 / np.sqrt(short / (2 - short)), memory.shape),
        ],
        axis=1,
    )
    return Moments(mean, scale, memory, whitening, gain, level, spread)


def _whitening(own: Array, independent: Array) -> Array:
    """(B, p, p): the symmetric inverse square root of the shrunk covariance."""
    frames, size = own.shape[1:]
    centred = own - own.mean(axis=1, keepdims=True)
    covariance = np.swapaxes(centred, 1, 2) @ centred / frames
    diagonal = np.einsum("bii->bi", covariance)
    # Where the resolution, not the spread, is the scale, a score varies by less than one; it counts as one.
    diagonal += np.maximum(0.0, 1.0 - diagonal)
    share = np.clip(size / (size + np.maximum(independent, 1.0)), MIN_SHRINKAGE, MAX_SHRINKAGE)[:, None, None]
    shrunk = (1 - share) * covariance + share * np.eye(size) * diagonal.mean(axis=1)[:, None, None]
    values, vectors = np.linalg.eigh(shrunk)
    factor: Array = (vectors / np.sqrt(np.maximum(values, 1e-9))[:, None]) @ np.swapaxes(vectors, 1, 2)
    return factor
