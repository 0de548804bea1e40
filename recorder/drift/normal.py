"""What is normal for one stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.drift.answers import AnswerNormal, learn_answers
from recorder.drift.calibration import Tail, calibrate, detectors
from recorder.drift.moments import Moments, estimate
from recorder.drift.scores import MAX_EMBEDDING, Scores
from recorder.drift.stationary import drifting

__all__ = ["GROUPS", "MAX_RATE", "MIN_FRAMES", "SHORT_RATE", "Normal", "learn"]

Array = npt.NDArray[np.float64]

#: With fewer frames neither memory nor spread can be told.
MIN_FRAMES = 50
#: With fewer, memory is told too badly for a rate rarer than this: of noise of r = .98, 70 frames that promised 1 false
#: alarm in 100,000 gave one in 80,000, and 50 one in 53,000; 1 in 10,000 was kept by both.
SHORT_FRAMES, SHORT_RATE = 100, 10_000
#: No rate is rarer.
MAX_RATE = 10**9
#: Triggers and the detectors they listen to.
GROUPS = ("drift", "image_quality")
#: A neighbour this far apart in the reference is no neighbour any more: enough of them must be left.
MIN_NEIGHBOURS = 0.5


@dataclass(frozen=True, slots=True)
class Normal:
    """One stream's reference.

    Attributes:
        frames: how many it was learnt from.
        scores: how a frame's scores are made.
        moments: of the scores.
        tails: what chance does to each group of detectors; a group without detectors has none.
        answers: what the answers are like; None: there were none.
        rarest: frames to a false alarm in the rarest rate that this reference keeps.
    """

    frames: int
    scores: Scores
    moments: Moments
    tails: dict[str, Tail]
    answers: AnswerNormal | None = None
    rarest: int = SHORT_RATE

    @property
    def detectors(self) -> tuple[str, ...]:
        """The detectors' names."""
        return detectors(self.scores.parts)

    def group(self, name: str) -> npt.NDArray[np.int64]:
        """Numbers of the detectors of a group."""
        return _groups(self.scores)[name]

    def kept(self, frames_per_false_alarm: int) -> int:
        """The rate that is kept where this one is asked for: itself, or the rarest there is."""
        return min(frames_per_false_alarm, self.rarest)

    def shortfall(self, frames_per_false_alarm: int) -> str | None:
        """Say, in one sentence, that this rate is not kept and what to do; None: it is."""
        if self.kept(frames_per_false_alarm) == frames_per_false_alarm:
            return None
        which = "of" if self.frames < SHORT_FRAMES else "of an older release, of"
        return (
            f"a reference {which} {self.frames:,} frames keeps 1 false alarm in {self.rarest:,} frames, not in "
            f"{frames_per_false_alarm:,}; learn again from {SHORT_FRAMES} frames or more, better a minute of video"
        )


def learn(
    signals: Array,
    names: Sequence[str],
    embeddings: Array | None,
    begins: npt.NDArray[np.bool_],
    seed: int = 0,
    classes: Sequence[str | None] | None = None,
) -> Normal:
    """Learn one stream's normal from its frames, oldest first.

    Args:
        signals: (n, k), NaN where a frame has none.
        names: (k).
        embeddings: (n, d) or None.
        begins: (n) whether a frame does not follow the one in the row before it.
        seed: of the calibration's draws.
        classes: (n) the top-1 class of each frame.

    Raises:
        ValueError: there are too few frames, they never vary, or they drift. One sentence.
    """
    if embeddings is not None and embeddings.shape[1] > MAX_EMBEDDING:
        raise ValueError(f"An embedding has at most {MAX_EMBEDDING} numbers, not {embeddings.shape[1]}; pool it first.")
    if len(signals) < MIN_FRAMES:
        raise ValueError(_TOO_FEW.format(len(signals)))
    lacking = 0 if embeddings is None else int((~np.isfinite(embeddings).all(axis=1)).sum())
    if lacking > len(signals) - MIN_FRAMES:
        raise ValueError(
            f"{lacking} of {len(signals)} embeddings are missing or not finite, and a reference takes at least "
            f"{MIN_FRAMES} that are neither; look at the model, or learn without its embedding."
        )
    made, rows = Scores.learn(signals, names, embeddings)
    columns = made.columns(names)
    if int(rows.sum()) < MIN_FRAMES:
        raise ValueError(_TOO_FEW.format(int(rows.sum())))
    scores = made.of_reference(signals[rows][:, columns], embeddings[rows] if embeddings is not None else None)
    # A row that follows one that was left out follows nothing.
    follows = (~begins & np.concatenate([[False], rows[:-1]]))[rows]
    follows[0] = False
    if follows.sum() < MIN_NEIGHBOURS * len(scores):
        raise ValueError("The reference's frames hardly ever follow each other; record runs of neighbouring frames.")
    if follows[1:].all():
        _require_steady(scores, made.labels)
    resolution = made.resolution(scores)
    moments = estimate(scores[None], follows, resolution, made.parts).one(0)
    groups = {name: numbers for name, numbers in _groups(made).items() if len(numbers)}
    unknown, tails = calibrate(scores, follows, resolution, made.parts, made.singles, tuple(groups.values()), seed)
    moments = dataclasses.replace(moments, level=moments.level + unknown * moments.spread)
    confidence = signals[:, list(names).index("confidence")] if "confidence" in names else np.full(len(signals), np.nan)
    answers = learn_answers(confidence, classes if classes is not None else [None] * len(signals))
    rarest = SHORT_RATE if len(scores) < SHORT_FRAMES else MAX_RATE
    return Normal(len(scores), made, moments, dict(zip(groups, tails, strict=True)), answers, rarest)


_TOO_FEW = (
    f"A reference takes at least {MIN_FRAMES} complete frames of a stream, and has {{}}; a minute of video is better."
)


def _require_steady(scores: Array, labels: Sequence[str]) -> None:
    found = drifting(scores)
    if found is not None:
        number, size = found
        raise ValueError(
            f"The reference is itself drifting: {labels[number]} moves by {size:+.1f} standard deviations within it; "
            "learn from frames in which nothing changes, or from a longer stretch that has all that is normal."
        )


def _groups(scores: Scores) -> dict[str, npt.NDArray[np.int64]]:
    names = detectors(scores.parts)
    singles = [number for number, name in enumerate(names) if name.endswith("/single")]
    others = [number for number in range(len(names)) if number not in singles]
    alone = singles if scores.singles.stop else []
    return {"drift": np.array(others, np.int64), "image_quality": np.array(alone, np.int64)}
