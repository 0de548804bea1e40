"""What chance does to the detectors: simulated on the reference's own noise and memory, estimation error included.

A replicate is a reference of the same length and the stream after it, both drawn from the same process; the moments
are estimated from the first as they were from the real one, and the detectors run over the second. So a short
reference, whose mean is uncertain, gets wide thresholds by itself. The process: each score keeps its memory r from
frame to frame, and is driven by rows of the reference's own residuals, drawn in blocks, so that correlation between
scores, tails and what memory remains stay as they were. The largest value of each detector over a stream follows
Gumbel's law (their tails fall exponentially), which carries the threshold to rates rarer than were simulated.

That holds of a sum only while it falls as often as it rises. Distances from a mean that is itself off are larger than
the reference's own, frame after frame, and a CUSUM of them would rise for ever: a false alarm in every stream, however
high the threshold. So the level that distances are compared with is raised first by what the references do not know.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.drift.moments import EWMA_WEIGHTS, Moments, Part, estimate, residuals, standardised

__all__ = ["ALLOWANCE", "HORIZON_FRAMES", "STEP_CAP", "Tail", "calibrate", "detectors"]

Array = npt.NDArray[np.float64]

#: A CUSUM adds what a distance exceeds its mean by, in standard deviations, less this: tuned for shifts of one.
ALLOWANCE = 0.5
#: One frame adds at most so much.
STEP_CAP = 3.0
REPLICATES, CHUNK = 128, 8
HORIZON_FRAMES = 1_500
#: Longer references are simulated at this length: their estimation error hardly matters any more.
MAX_SIMULATED_FRAMES = 3_000
#: Residuals are drawn in runs of so many neighbours.
BLOCK_FRAMES = 12
#: A drawn row has this share of its variance from a second one: a few hundred rows alone have no tails.
BLEND = 0.2
#: A level is raised to so many standard deviations, between references, of the steps' mean (1 in 700) ...
UNKNOWN = 3.0
#: ... less half of the allowance: the other half still makes such a sum fall.
MARGIN = ALLOWANCE / 2
#: A sum that hardly ever rises in the simulation has no tail: its threshold is more than a step, its scale more than 0.
LEAST_SUM, LEAST_SUM_SCALE = STEP_CAP, 1.0
#: False alarms come in company: a reference that is off by chance gives several. Measured: 1.8 a stream that has any.
REPEATS = 2.0
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Tail:
    """How large chance makes a group of detectors.

    Attributes:
        location: (S) of each detector's largest value in a horizon.
        scale: (S) likewise.
        joint_location: of the largest of them all, each in its own units.
        joint_scale: likewise.
    """

    location: Array
    scale: Array
    joint_location: float
    joint_scale: float

    def threshold(self, frames_per_false_alarm: float) -> Array:
        """(S) what each detector must exceed, so that all together do so by chance once in so many frames."""
        rarer = REPEATS * frames_per_false_alarm / HORIZON_FRAMES
        joint = self.joint_location + self.joint_scale * math.log(rarer)
        limits: Array = self.location + self.scale * joint
        return limits


def detectors(parts: tuple[Part, ...]) -> tuple[str, ...]:
    """Name the detectors in their order: "raw/image/ewma" and so on; those of single signals last."""
    treatments = ("raw", "prewhitened")
    names = [f"{how}/{part.name}/{kind}" for kind in ("ewma", "cusum") for how in treatments for part in parts]
    return (*names, *(f"{how}/single" for how in treatments))


def calibrate(
    scores: Array,
    follows: npt.NDArray[np.bool_],
    resolution: Array,
    parts: tuple[Part, ...],
    singles: slice,
    groups: tuple[npt.NDArray[np.int64], ...],
    seed: int = 0,
) -> tuple[Array, tuple[Tail, ...]]:
    """Simulate, and return what levels lack, and the tail of each group of detectors.

    Args:
        scores: (n, m) of the reference.
        follows: (n) whether a frame is the next one after the row before it.
        resolution: (m) as for `estimate`.
        parts: likewise.
        singles: the scores that are also judged one by one.
        groups: numbers of detectors, in the order of `detectors`, that share a false-alarm rate.
        seed: of the draws; the same reference gets the same thresholds everywhere.

    Returns:
        (2, P) by how many `Moments.spread` each `Moments.level` is to be raised, with which the thresholds hold; and
        the tails, in the order of the groups.
    """
    random = np.random.default_rng(seed)
    of_reference = estimate(scores[None], follows, resolution, parts).one(0)
    z = standardised(scores, of_reference.mean, of_reference.scale)
    left = (z[1:] - of_reference.memory * z[:-1])[follows[1:]]
    left = left - left.mean(axis=0)
    frames = min(len(scores), MAX_SIMULATED_FRAMES)
    grain = resolution / of_reference.scale
    averages: list[Array] = []
    alone: list[Array] = []
    rises: list[Array] = []
    for _ in range(REPLICATES // CHUNK):
        stream = _simulate(z, left, of_reference.memory, frames + HORIZON_FRAMES, random)
        _turn(stream, frames, of_reference.scale, parts)
        known = estimate(stream[:, :frames], np.ones(frames, bool), grain, parts)
        for kept, found in zip(
            (averages, alone, rises), _statistics(stream[:, frames:], known, parts, singles), strict=True
        ):
            kept.append(found)
    rise = np.concatenate(rises)
    means = rise.mean(axis=1)
    unknown = np.maximum(0.0, means.mean(axis=0) + UNKNOWN * means.std(axis=0) - MARGIN)
    sums = _cusum(np.minimum(rise - unknown, STEP_CAP) - ALLOWANCE)
    largest = np.concatenate([*map(np.concatenate, (averages, [sums], alone))], axis=1)
    location, scale = _gumbel(largest)
    own = slice(sums.shape[1], 2 * sums.shape[1])
    location[own] = np.maximum(location[own], LEAST_SUM)
    scale[own] = np.maximum(scale[own], LEAST_SUM_SCALE)
    joint = (largest - location) / scale
    tails = []
    for group in groups:
        joint_location, joint_scale = _gumbel(joint[:, group].max(axis=1, keepdims=True))
        tails.append(Tail(location[group], scale[group], float(joint_location[0]), float(joint_scale[0])))
    return unknown.reshape(2, -1), tuple(tails)


def _simulate(z: Array, left: Array, memory: Array, frames: int, random: np.random.Generator) -> Array:
    """(CHUNK, frames, m): streams of the process, each beginning at some frame of the reference."""
    blocks = -(-frames // BLOCK_FRAMES)
    starts = random.integers(0, max(1, len(left) - BLOCK_FRAMES + 1), (2, CHUNK, blocks))
    rows = (starts[..., None] + np.arange(BLOCK_FRAMES)).reshape(2, CHUNK, -1)[..., :frames] % len(left)
    stream: Array = np.sqrt(1 - BLEND) * left[rows[0]]
    stream += np.sqrt(BLEND) * left[rows[1]]
    state = z[random.integers(0, len(z), CHUNK)]
    for t in range(frames):
        state = memory * state + stream[:, t]
        stream[:, t] = state
    return stream


def _turn(stream: Array, frames: int, scale: Array, parts: tuple[Part, ...]) -> None:
    """Choose an embedding's directions anew, in place, in each simulated reference.

    Of a short one, the first directions are those that happened to vary much in it, and slowly, and the last the
    opposite: their memory and spread are not those of the stream after it.
    """
    if parts[-1].name != "embedding":
        return
    first, directions = stream.shape[2] - parts[-1].size, slice(stream.shape[2] - parts[-1].size, -1)
    own = stream[:, :, directions] * scale[directions]
    centred = own[:, :frames] - own[:, :frames].mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(np.swapaxes(centred, 1, 2) @ centred / frames)
    # In the units of the scores, so that the least differences that count stay where they were.
    stream[:, :, first:-1] = own @ vectors[:, :, ::-1] / scale[directions]


def _statistics(stream: Array, known: Moments, parts: tuple[Part, ...], singles: slice) -> tuple[Array, Array, Array]:
    """The moving averages' largest values, (CHUNK, 2 P) of parts and (CHUNK, 2) of single signals; the sums' steps.

    The steps, (CHUNK, frames - 1, 2 P), are what distances exceed their level by, not capped, the allowance not taken.
    """
    z = standardised(stream, known.mean[:, None], known.scale[:, None])
    memory = known.memory[:, None]
    short = residuals(z[:, 1:], z[:, :-1], memory)
    edges = np.cumsum([0, *(part.size for part in parts)])
    averages, steps, alone = [], [], []
    for treatment, each in enumerate((z[:, 1:], short)):
        distance = _distances(each, known.whitening[:, treatment], edges)
        steps.append((distance - known.level[:, treatment, None]) / known.spread[:, treatment, None])
        average = _average(each, EWMA_WEIGHTS[treatment]) * known.gain[:, treatment, None]
        alone.append(np.abs(average[:, :, singles]).max(axis=(1, 2), initial=0.0)[:, None])
        averages.append((_distances(average, known.whitening[:, treatment], edges) ** 2).max(axis=1))
    return np.concatenate(averages, axis=1), np.concatenate(alone, axis=1), np.concatenate(steps, axis=2)


def _distances(each: Array, whitening: Array, edges: npt.NDArray[np.int64]) -> Array:
    """(B, n, P): Mahalanobis distance of each part, per root of its size."""
    white = each @ whitening
    squares = np.add.reduceat(white * white, edges[:-1], axis=2)
    distances: Array = np.sqrt(squares / np.diff(edges))
    return distances


def _cusum(steps: Array) -> Array:
    """(B, S): the largest value of each sum over the frames."""
    state = np.zeros_like(steps[:, 0])
    largest = np.zeros_like(state)
    for t in range(steps.shape[1]):
        state = np.maximum(0.0, state + steps[:, t])
        np.maximum(largest, state, out=largest)
    return largest


def _average(each: Array, weight: float) -> Array:
    averages = np.empty_like(each)
    state = np.zeros_like(each[:, 0])
    for t in range(each.shape[1]):
        state = state + weight * (each[:, t] - state)
        averages[:, t] = state
    return averages


def _gumbel(maxima: Array) -> tuple[Array, Array]:
    """Location and scale of Gumbel's law by L-moments (Hosking, 1990), column by column."""
    ordered = np.sort(maxima, axis=0)
    count = len(ordered)
    first = ordered.mean(axis=0)
    weighted = (np.arange(count)[:, None] / (count - 1) * ordered).mean(axis=0)
    scale = np.maximum((2 * weighted - first) / math.log(2), 1e-6)
    return first - _EULER * scale, scale
