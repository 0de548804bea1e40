"""Since when: the likeliest change point among the last frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["change_point"]

Array = npt.NDArray[np.float64]


def change_point(past: Array, memory: Array, whitening: Array) -> int:
    """Return the row at which a lasting step of the scores most likely began, up to the newest row.

    The generalised likelihood ratio of a step at each row against none. Scores have memory r from frame to frame, so a
    step of height s shows in the residuals as s / sqrt(1 - r^2) at first, then as (1 - r) s / sqrt(1 - r^2): its height
    is fitted by least squares for each row and compared in units of the residuals' covariance. A gradual change is
    given the step that resembles it most.

    Args:
        past: (n, m) standardised scores, oldest first, mean 0 before the change.
        memory: (m).
        whitening: (m, m) of the residuals.
    """
    if len(past) < 2:
        return 0
    root = np.sqrt(1 - memory * memory)
    left = np.empty_like(past)
    left[0] = past[0] * root  # what was before the first frame is not known: its memory is left out
    left[1:] = (past[1:] - memory * past[:-1]) / root
    first, later = 1 / root, (1 - memory) / root
    after = np.cumsum(left[::-1], axis=0)[::-1] - left  # the sum of all rows after each
    count = np.arange(len(past))[::-1, None]
    fitted = (first * left + later * after) / np.sqrt(first**2 + later**2 * count)
    ratio = ((fitted @ whitening) ** 2).sum(axis=1)
    return int(ratio.argmax())
