"""Does the confidence mean anything? A reliability diagram where truth is known, the confidences' shape where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recorder.bundle.values import JsonValue
from replay.probe.finding import Curve, Finding

__all__ = ["Sure", "calibration"]

#: Guo et al. 2017, arXiv:1706.04599, use 15; an incident has few frames.
BINS = 10

#: Expected calibration error. Modern classifiers before temperature scaling have 0.04 to 0.17 (ibid., table 1).
MOST_ERROR = 0.1

#: Below so many frames a diagram is anecdote.
LEAST_FRAMES = 20

#: Below so many confidences their shape is chance.
LEAST_SHAPE = 10

#: Sarle's coefficient of a uniform distribution; above, a distribution has two humps or a heavy skew.
BIMODAL = 5 / 9


@dataclass(frozen=True, slots=True)
class Sure:
    """One frame's confidence, and whether it was right where that is known."""

    confidence: float
    right: bool | None
    nameless: bool = False  #: there is a truth, and nothing says which class it is


def calibration(answers: Sequence[Sure]) -> Finding:
    """Judge confidences; nothing is run again.

    The expected calibration error weighs |accuracy - confidence| of each bin by its frames; empty bins are shown and
    count nothing.
    """
    known = [each for each in answers if each.right is not None]
    if known:
        return _reliability(known)
    nameless = any(each.nameless for each in answers)
    return _shape([each.confidence for each in answers], _NAMELESS if nameless else "no truth is known")


def _reliability(known: Sequence[Sure]) -> Finding:
    sure = np.asarray([each.confidence for each in known])
    right = np.asarray([bool(each.right) for each in known], float)
    places = np.clip((sure * BINS).astype(int), 0, BINS - 1)
    bins: list[JsonValue] = []
    error = 0.0
    at, kept = [], []
    for place in range(BINS):
        here = places == place
        count = int(here.sum())
        accuracy = float(right[here].mean()) if count else None
        mean = float(sure[here].mean()) if count else None
        bins.append(
            {"from": place / BINS, "to": (place + 1) / BINS, "frames": count, "accuracy": accuracy, "confidence": mean}
        )
        if accuracy is not None and mean is not None:
            error += count / len(known) * abs(accuracy - mean)
            at.append(round(mean, 4))
            kept.append(accuracy)
    enough = len(known) >= LEAST_FRAMES
    empty = sum(1 for each in range(BINS) if not np.any(places == each))
    return Finding(
        name="calibration",
        passed=error <= MOST_ERROR if enough else None,
        sentence=f"expected calibration error {error:.3f} over {len(known)} frames with known truth, "
        f"{empty} of {BINS} bins empty" + ("" if enough else f"; fewer than {LEAST_FRAMES} frames decide nothing"),
        threshold=f"at most {MOST_ERROR:g}, of at least {LEAST_FRAMES} frames",
        proves="how far a stated confidence is from the share of right answers, on these frames",
        limits="calibration elsewhere: an incident's frames are no sample of the service",
        evidence={
            "ece": round(error, 4),
            "frames": len(known),
            "accuracy": round(float(right.mean()), 4),
            "bins": bins,
        },
        curves=(
            Curve(
                name="reliability",
                unit="confidence",
                at=tuple(at),
                kept=tuple(kept),
                confidence=tuple(None for _ in at),
            ),
        ),
    )


#: Instead of an accuracy of nothing, which a name held against an index would give.
_NAMELESS = "the truth is a name, and nothing says which class that is (give --labels FILE)"


def _shape(confidences: Sequence[float], why: str) -> Finding:
    values = np.asarray(confidences, float)
    if len(values) == 0:
        return Finding(name="calibration", passed=None, sentence="no answer has a confidence")
    counts, _ = np.histogram(values, bins=BINS, range=(0, 1))
    coefficient = _bimodality(values)
    said = (
        "too few or too equal to tell their shape"
        if coefficient is None
        else f"bimodality coefficient {coefficient:.2f}"
        + (" (two groups, or a heavy tail)" if coefficient > BIMODAL else " (one group)")
    )
    return Finding(
        name="calibration",
        passed=None,
        sentence=f"{why}, so only the shape of {len(values)} confidences: {said}",
        threshold=f"a bimodality coefficient above {BIMODAL:.3f} tells of two groups (Sarle)",
        proves="whether the frames fall into sure and unsure ones",
        limits="calibration: record ground_truth as metadata, or name its key with --truth",
        evidence={
            "histogram": [int(count) for count in counts],
            "mean": round(float(values.mean()), 4),
            "bimodality": None if coefficient is None else round(coefficient, 4),
        },
    )


def _bimodality(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float | None:
    """Sarle's (skewness² + 1) / (excess kurtosis + 3 (n-1)² / ((n-2)(n-3))), sample-corrected as in SAS."""
    n = len(values)
    spread = float(values.std())
    if n < LEAST_SHAPE or spread < 1e-6:
        return None
    centred = (values - values.mean()) / spread
    skewness = float((centred**3).mean()) * np.sqrt(n * (n - 1)) / (n - 2)
    excess = (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (float((centred**4).mean()) - 3) + 6)
    return float((skewness**2 + 1) / (excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3))))
