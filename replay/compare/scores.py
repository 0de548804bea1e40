"""Scores to classes: of rows, and of the pixels of a map."""

from __future__ import annotations

import numpy as np

from replay.compare.layout import Array

__all__ = ["class_map", "classify"]


def classify(rows: Array) -> tuple[Array, Array]:
    """Return the class (N) and the confidence (N) of each row of logits or probabilities (N, C >= 1).

    Rows that are non-negative and sum to one are probabilities; others go through softmax. A row without a finite
    largest value has confidence NaN; NaN entries never win.
    """
    rows = np.where(np.isnan(rows), -np.inf, rows)
    top = np.argmax(rows, axis=1)
    peak = np.take_along_axis(rows, top[:, None], axis=1)
    with np.errstate(all="ignore"):
        is_probabilities = np.all(rows >= 0, axis=1) & (np.abs(rows.sum(axis=1) - 1.0) < 1e-3)
        softmax = 1.0 / np.sum(np.exp(rows - peak), axis=1)
    confidence = np.where(is_probabilities, peak[:, 0], softmax)
    return top, np.where(np.isfinite(peak[:, 0]), confidence, np.nan)


def class_map(scores: Array, reference: Array) -> Array:
    """The class of each pixel of (C, H, W) scores; with one channel, whether it is above the middle.

    The middle is 0.5 where the reference holds probabilities, else 0 (logits).
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if scores.shape[0] > 1:
        classes: Array = np.argmax(scores, axis=0)
        return classes
    probabilities = bool(np.all((reference >= 0) & (reference <= 1)))
    above: Array = scores[0] >= (0.5 if probabilities else 0.0)
    return above
