"""From what was measured to what is told apart: differences from the reference, in physical units and in spreads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.cause.pose import Pose, PoseFinder, thumbnail
from recorder.cause.statistics import Window

__all__ = ["POSE_FEATURES", "Normal", "feature_count", "learn_normal"]

Array = npt.NDArray[np.float64]

#: Spread of a statistic below which a difference is of no matter, in the statistic's own unit (logarithms mostly).
_LEAST_SPREAD = 0.02
#: The same of cells.
_LEAST_CELL_SPREAD = 0.04
#: A camera whose view fits its thumbnail within this share of the width, nine times in ten, stands fixed.
FIXED_SHIFT, FIXED_DEGREES, FIXED_FIT = 0.015, 1.0, 0.25
#: Standing still explains so much of the best fit: in a plain scene the best turn is an accident.
_UNMOVED = 0.85
#: Features that the pose of a fixed camera adds.
POSE_FEATURES = 12
#: A cast goes any way between the channels, so its size is told, in shadows, overall and in lights.
CASTS = (("ratio_low_01", "ratio_low_21"), ("ratio_01", "ratio_21"), ("ratio_high_01", "ratio_high_21"))


def feature_count(statistics: int) -> int:
    """Return how many features so many statistics make, without those of the pose."""
    return 2 * statistics + 2 * len(CASTS) + 2 * (5 * 3 + 4 * 3) + 1


@dataclass(frozen=True, slots=True)
class Normal:
    """What a camera's windows are like when nothing is wrong.

    Attributes:
        names: of the statistics.
        centre, spread: of each.
        cells, cells_spread: (3, side, side) of the cells' statistics.
        thumb: what the camera looks at; None where it moves, or where no picture may be kept.
    """

    names: tuple[str, ...]
    centre: Array
    spread: Array
    cells: Array
    cells_spread: Array
    thumb: npt.NDArray[np.float32] | None

    def pose_finder(self) -> PoseFinder | None:
        """Return what finds the camera's pose, None where it has none."""
        return None if self.thumb is None else PoseFinder(self.thumb)

    def features(self, window: Window, pose: Pose | None) -> Array:
        """Return what a window differs in."""
        delta = window.values - self.centre
        sigmas = np.arcsinh(delta / self.spread)
        cells = window.cells - self.cells
        cell_sigmas = np.arcsinh(cells / self.cells_spread)
        pairs = [[self.names.index(name) for name in pair] for pair in CASTS]
        casts = np.linalg.norm(delta[pairs], axis=1)
        cast_sigmas = np.arcsinh(casts / np.linalg.norm(self.spread[pairs], axis=1))
        found = [delta, sigmas, np.log(casts + _LEAST_SPREAD), cast_sigmas]
        for each in (cells, cell_sigmas):
            flat = each.reshape(3, -1)
            ordered = np.sort(np.abs(flat - np.median(flat, axis=1, keepdims=True)), axis=1)
            found += [np.median(flat, axis=1), ordered[:, -1], ordered[:, -4], ordered[:, -12], flat.std(axis=1)]
            found.append(np.sort(flat, axis=1)[:, [0, 3, -4, -1]].ravel())
        a, b = self.cells[0].ravel(), window.cells[0].ravel()
        likeness = ((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std() + 1e-4)
        found.append(np.array([likeness]))
        if self.thumb is not None:
            found += [_pose_features(pose), self._changed(window)]
        return np.concatenate(found)

    def _changed(self, window: Window) -> Array:
        """How much of the picture is not what the camera looks at, whatever the light."""
        given = thumbnail(window.mean)
        if self.thumb is None or given.shape != self.thumb.shape:
            return np.zeros(POSE_FEATURES - 8)
        change = given - self.thumb
        change = np.abs(change - np.median(change))
        areas = [np.log((change > level).mean() + 3e-3) for level in (0.05, 0.12)]
        return np.array([*areas, *np.log(np.quantile(change, (0.9, 0.97)) + 5e-3)])

    def hue(self, window: Window, count: int) -> int:
        """Return into which of ``count`` sectors of the hues a window's colours have moved."""
        red, blue = (
            window.values[self.names.index(name)] - self.centre[self.names.index(name)]
            for name in ("ratio_01", "ratio_21")
        )
        return int((np.arctan2(blue, red) / (2 * np.pi) + 0.5) * count) % count

    def sigmas(self, window: Window) -> Array:
        """Return how many spreads each statistic is away."""
        away: Array = (window.values - self.centre) / self.spread
        return away


def _pose_features(pose: Pose | None) -> Array:
    if pose is None:
        return np.zeros(POSE_FEATURES)
    sure = max(0.0, min(1.0, (pose.fit - 0.1) / 0.3))
    return np.array(
        [
            np.log(pose.shift + 0.003) * sure,
            100 * pose.right * sure,
            100 * pose.down * sure,
            np.log(abs(pose.degrees) + 0.2) * sure,
            pose.degrees * sure,
            pose.fit,
            pose.unmoved,
            pose.fit - pose.unmoved,
        ]
    )


def learn_normal(windows: Sequence[Window], *, keep_thumbnail: bool) -> Normal:
    """Learn from clean windows, in order of time."""
    values = np.stack([window.values for window in windows])
    cells = np.stack([window.cells for window in windows])
    thumb = None
    if keep_thumbnail:
        thumb = np.median(np.stack([thumbnail(window.mean) for window in windows]), axis=0).astype(np.float32)
        if not is_fixed(thumb, windows):
            thumb = None
    few = 1 + 2 / len(windows)  # a spread of few windows is too small
    return Normal(
        windows[0].names,
        np.median(values, axis=0),
        np.maximum(values.std(axis=0) * few, _LEAST_SPREAD),
        np.median(cells, axis=0),
        np.maximum(cells.std(axis=0) * few, _LEAST_CELL_SPREAD),
        thumb,
    )


def is_fixed(thumb: npt.NDArray[np.float32], windows: Sequence[Window]) -> bool:
    """Whether the camera stands still: registration means something only then."""
    finder = PoseFinder(thumb)
    poses = [finder.find(window.mean) for window in windows]
    still = [
        pose.fit > FIXED_FIT
        and (pose.unmoved > _UNMOVED * pose.fit or (pose.shift < FIXED_SHIFT and abs(pose.degrees) < FIXED_DEGREES))
        for pose in poses
    ]
    return sum(still) >= 0.9 * len(still)
