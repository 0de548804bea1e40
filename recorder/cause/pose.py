"""How far the camera has moved: a thumbnail of the reference, turned and shifted until it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.cause.filters import blurred, disk_kernel, moved

__all__ = ["Pose", "PoseFinder", "THUMBNAIL_SIDE", "thumbnail"]

Grey = npt.NDArray[np.float32]

#: Longer side of the thumbnail: a shift of a tenth of its pixels is seen, faces are not recognised.
THUMBNAIL_SIDE = 96
#: Turns that are tried, in degrees; between them a parabola tells.
_TURNS = np.arange(-15.0, 15.1, 1.0)
#: Over which local mean and contrast are taken.
_NEAR = disk_kernel(8.0, soft=True)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the camera points, against the reference.

    Attributes:
        right, down: shift of the scene, as a share of the frame's width.
        degrees: turn of the scene, counter-clockwise on the screen.
        fit: correlation at its best, 0 to 1.
        unmoved: correlation without any move.
    """

    right: float
    down: float
    degrees: float
    fit: float
    unmoved: float

    @property
    def shift(self) -> float:
        """Length of the shift, as a share of the width."""
        return float(np.hypot(self.right, self.down))


def thumbnail(luminance: Grey) -> Grey:
    """Reduce (height, width) of luminance to at most `THUMBNAIL_SIDE`."""
    factor = -(-max(luminance.shape) // THUMBNAIL_SIDE)
    height, width = luminance.shape[0] // factor, luminance.shape[1] // factor
    kept = luminance[: height * factor, : width * factor]
    made: Grey = kept.reshape(height, factor, width, factor).mean(axis=(1, 3), dtype=np.float32)
    return made


class PoseFinder:
    """Compares views with one thumbnail.

    Args:
        reference: (height, width) luminance, 0 to 1.
    """

    def __init__(self, reference: Grey) -> None:
        self._shape = reference.shape
        height, width = reference.shape
        self._taper = (np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]).astype(np.float32) ** 0.5
        plain = _flattened(reference)
        turned = [self._prepared(moved(plain[None, :, :, None], turn, 0, 0)[0, :, :, 0]) for turn in _TURNS]
        self._spectra = np.conj(np.stack([np.fft.rfft2(each) for each in turned]))

    def find(self, luminance: Grey) -> Pose:
        """Find the turn and shift that fit best."""
        given = thumbnail(luminance)
        if given.shape != self._shape:
            return Pose(0.0, 0.0, 0.0, 0.0, 0.0)
        height, width = self._shape
        spectrum = np.fft.rfft2(self._prepared(_flattened(given)))
        maps = np.fft.irfft2(spectrum * self._spectra, self._shape, axes=(1, 2)).astype(np.float32)
        peaks = maps.reshape(len(_TURNS), -1).max(axis=1)
        best = int(peaks.argmax())
        turn = _TURNS[best] + _parabola(peaks, best) * (_TURNS[1] - _TURNS[0])
        row, column = np.unravel_index(int(maps[best].argmax()), self._shape)
        down = row + _parabola(maps[best][:, column], int(row))
        right = column + _parabola(maps[best][row], int(column))
        down, right = (down + height / 2) % height - height / 2, (right + width / 2) % width - width / 2
        unmoved = float(maps[len(_TURNS) // 2][0, 0])
        return Pose(float(right / width), float(down / width), float(turn), float(peaks[best]), unmoved)

    def _prepared(self, flat: Grey) -> Grey:
        tapered = (flat - flat.mean()) * self._taper
        made: Grey = tapered / np.float32(np.sqrt((tapered**2).sum()) + 1e-6)
        return made


def _flattened(luminance: Grey) -> Grey:
    """Take out what light does: local mean and local contrast."""
    flat = luminance - blurred(luminance[None, :, :, None], _NEAR)[0, :, :, 0]
    strength = np.sqrt(blurred((flat**2)[None, :, :, None], _NEAR)[0, :, :, 0].clip(0)) + np.float32(0.01)
    made: Grey = flat / strength
    return made


def _parabola(values: npt.NDArray[np.floating], place: int) -> float:
    """Where between neighbours the top of a peak lies; values go round."""
    before, here, after = values[place - 1], values[place], values[(place + 1) % len(values)]
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
