"""Whether the frames to learn from are themselves drifting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recorder.cause.views import FrameRefused, Views

__all__ = ["require_steady"]

#: A trend of the luminance that explains so much of its variance, and takes it this far, is no accident of the scene.
_EXPLAINED, _STOPS = 0.8, 0.8
_GAMMA = 2.2


def require_steady(windows: Sequence[Views]) -> None:
    """Refuse a warm-up in which the light goes steadily one way.

    Raises:
        FrameRefused: it does. One sentence.
    """
    if len(windows) < 4:
        return
    light = np.log2([float(each.wide.mean()) + 1e-3 for each in windows]) * _GAMMA
    time = np.linspace(-0.5, 0.5, len(light))
    slope = float(time @ (light - light.mean()) / (time @ time))
    explained = slope**2 * float(time @ time) / max(float(((light - light.mean()) ** 2).sum()), 1e-9)
    if explained > _EXPLAINED and abs(slope) > _STOPS:
        raise FrameRefused(
            f"the frames are themselves drifting: the light changes by {slope:+.1f} stops from the first to the last; "
            "learn from frames in which nothing changes, or from a longer stretch that has all that is normal"
        )
