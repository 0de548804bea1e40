"""Whether a reference is itself drifting: what is normal cannot be learnt from it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recorder.output_shift import f_tail

__all__ = ["drifting"]

Array = npt.NDArray[np.float64]

#: Accepted probability of refusing a sound reference, all scores and both tests together.
SIGNIFICANCE = 0.005
#: A change below this many standard deviations of what surrounds it is no drift that matters.
LEAST_CHANGE = 1.0
MAX_FREEDOM = 12.0


def drifting(scores: Array) -> tuple[int, float] | None:
    """Test every score for a trend and for a step in the middle; both allow for memory from frame to frame.

    A line, or two means, are fitted; what remains tells spread and memory r. With them the change has the variance
    of its estimate, (1 + r) / (1 - r) times that of independent frames, and is judged by Student's t of the independent
    frames' freedom, at most `MAX_FREEDOM`.

    Args:
        scores: (n, m), neighbours in time.

    Returns:
        The score that drifts most, and by how many standard deviations; None: none does.
    """
    n, m = scores.shape
    time = (np.arange(n) - (n - 1) / 2) / n
    later = np.where(np.arange(n) >= n // 2, 0.5, -0.5)
    worst: tuple[float, int, float] | None = None
    for shape in (time, later):
        shape = shape - shape.mean()
        energy = float(shape @ shape)
        centred = scores - scores.mean(axis=0)
        change = shape @ centred / energy
        rest = centred - shape[:, None] * change
        variance = np.maximum(rest.var(axis=0), 1e-12)
        memory = (rest[1:] * rest[:-1]).mean(axis=0) / variance
        memory = np.clip(memory + (1 + 6 * memory) / n, 0.0, 0.99)
        stretch = (1 + memory) / (1 - memory)
        independent = n / stretch
        f = change**2 / (variance * stretch / energy)
        for number in range(m):
            size = float(abs(change[number]) / np.sqrt(variance[number]))
            p = f_tail(float(f[number]), 1.0, float(np.clip(independent[number] - 2, 1.0, MAX_FREEDOM)))
            if p < SIGNIFICANCE / (2 * m) and size > LEAST_CHANGE and (worst is None or p < worst[0]):
                worst = (p, number, float(change[number] / np.sqrt(variance[number])))
    return None if worst is None else worst[1:]
