"""Statistics of a window of frames: physical quantities, on logarithmic scales where they span decades.

Each is a mean over the window's frames; those of time compare neighbouring frames, so a window is a run of neighbours.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.cause.views import Pixels, Views

__all__ = ["CELLS", "Window", "measure"]

Array = npt.NDArray[np.float64]
Grey = npt.NDArray[np.float32]

#: Rec. 601.
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
#: Cells on each side by which layout and local faults are compared.
CELLS = 6
#: Below a grey level of eight bits there is nothing.
_LEVEL = 1 / 255
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
#: A pixel that stands out from its neighbours by so much is an impulse, not texture.
_IMPULSE = 0.12
#: Coarser steps than one in eight pixels are the scene's.
_STEPS = 0.12


class Window:
    """What was measured of a window.

    Attributes:
        names: of the values.
        values: float64.
        cells: (3, CELLS, CELLS): luminance, log of its deviation, log of its gradient, each of a cell.
        mean: (height, width) luminance of the reduced view, the median over time: what the camera looks at.
    """

    __slots__ = ("cells", "mean", "names", "values")

    def __init__(self, found: dict[str, Any], cells: Array, mean: Grey) -> None:
        self.names = tuple(found)
        self.values = np.array(list(found.values()), np.float64)
        self.cells = cells
        self.mean = mean


def measure(views: Views) -> Window:
    """Measure a window of neighbouring frames."""
    wide = np.tensordot(views.wide, _WEIGHTS, 1)
    detail = np.tensordot(views.detail, _WEIGHTS, 1)
    found: dict[str, Any] = {}
    planes = np.ascontiguousarray(views.wide.transpose(3, 0, 1, 2))  # sums over channels that lie apart are quicker
    _tones(found, planes, wide)
    _colour(found, planes)
    _texture(found, detail)
    _spectrum(found, detail)
    _noise(found, views.detail, detail)
    _blocks(found, detail)
    _resampling(found, detail)
    _time(found, "wide", wide)
    _time(found, "detail", detail)
    mean = _median(wide)
    return Window({name: float(value) for name, value in found.items()}, _cells(wide), mean)


def _median(grey: Grey) -> Grey:
    """Over time; sorting few frames is quicker than numpy's selection."""
    ordered, half = np.sort(grey, axis=0), len(grey) // 2
    made: Grey = ordered[half] if len(grey) % 2 else (ordered[half - 1] + ordered[half]) / np.float32(2)
    return made


def _cubed(centred: Grey) -> float:
    return float((centred * centred * centred).mean())  # numpy's power is slow but for squares


def _log(value: npt.ArrayLike, floor: float = 1e-4) -> Array:
    return np.log(np.asarray(value, np.float64) + floor)


def _tones(found: dict[str, Any], colour: Pixels, grey: Grey) -> None:
    for share, value in zip(_QUANTILES, np.quantile(grey[::2, ::2], _QUANTILES), strict=True):
        found[f"luminance_{share:g}"] = value
    found["luminance"] = grey.mean()
    found["contrast"] = _log(grey.std(axis=(1, 2)).mean())
    centred = grey - grey.mean()
    found["skewness"] = _cubed(centred) / (grey.std() + 0.02) ** 3
    found["clipped_low"] = _log((grey <= 3 * _LEVEL).mean(), 1e-3)
    found["clipped_high"] = _log((grey >= 1 - 3 * _LEVEL).mean(), 1e-3)
    found["levels"] = _log(np.count_nonzero(np.bincount((grey * 255).astype(np.uint8).ravel())) / 256)
    third = max(1, grey.shape[1] // 3)
    found["sky"] = grey[:, :third].mean() - grey[:, -third:].mean()
    found["sky_contrast"] = _log(grey[:, :third].std(axis=2).mean()) - _log(grey[:, -third:].std(axis=2).mean())
    darkest = np.minimum(np.minimum(colour[0], colour[1]), colour[2])
    found["haze"] = np.quantile(darkest, 0.05)
    brightest = np.maximum(np.maximum(colour[0], colour[1]), colour[2])
    saturation = (brightest - darkest) / (brightest + 0.03)
    found["saturation"] = saturation.mean()
    found["saturation_spread"] = saturation.std()
    found["chroma"] = _log((brightest - darkest).mean(), 2e-3)


def _colour(found: dict[str, Any], colour: Pixels) -> None:
    flat = colour.reshape(3, -1)
    means, spreads = flat.mean(axis=1), flat.std(axis=1)
    planes = np.ascontiguousarray(flat[:, ::3])
    lows, highs = np.quantile(planes, (0.25, 0.75), axis=1)
    for number, name in enumerate("012"):
        found[f"channel_{name}"] = means[number]
        found[f"channel_{name}_spread"] = _log(spreads[number], 5e-3)
    for first, second in ((0, 1), (2, 1), (0, 2)):
        pair = f"{first}{second}"
        found[f"ratio_{pair}"] = _log(means[first], 0.02) - _log(means[second], 0.02)
        found[f"ratio_low_{pair}"] = _log(lows[first], 0.04) - _log(lows[second], 0.04)
        found[f"ratio_high_{pair}"] = _log(highs[first], 0.04) - _log(highs[second], 0.04)
        difference = planes[first] - planes[second]
        found[f"difference_{pair}"] = _log(difference.std(), 2e-3)
        skew = _cubed(difference - difference.mean())
        found[f"difference_skew_{pair}"] = skew / (difference.std() + 0.01) ** 3


def _texture(found: dict[str, Any], grey: Grey) -> None:
    level = grey
    for octave in range(3):
        steps = {
            "x": level[:, :, 1:] - level[:, :, :-1],
            "y": level[:, 1:] - level[:, :-1],
            "down": level[:, 1:, 1:] - level[:, :-1, :-1],
            "up": level[:, 1:, :-1] - level[:, :-1, 1:],
        }
        energy = {name: _log(np.sqrt((step**2).mean()), 5e-4) for name, step in steps.items()}
        for name, value in energy.items():
            found[f"gradient_{octave}_{name}"] = value
        found[f"anisotropy_{octave}"] = max(energy.values()) - min(energy.values())
        if octave == 0:
            found["flat"] = (np.abs(steps["x"]) < 0.5 * _LEVEL).mean()
            squares = steps["x"] ** 2
            found["kurtosis"] = _log((squares**2).mean() / (squares.mean() + 1e-8) ** 2)
            strong = np.quantile(np.abs(steps["x"]), 0.99)
            found["edge"] = _log(strong, 2e-3)
            found["edge_width"] = _log(strong, 2e-3) - _log(
                np.quantile(np.abs(level[:, :, 4:] - level[:, :, :-4]), 0.99)
            )
        level = _halved(level)
    second = grey[:, :, 2:] - 2 * grey[:, :, 1:-1] + grey[:, :, :-2]
    found["sharpness"] = _log(second.std(), 5e-4)


def _halved(grey: Grey) -> Grey:
    height, width = grey.shape[1] // 2 * 2, grey.shape[2] // 2 * 2
    kept = grey[:, :height, :width]
    made: Grey = (kept[:, ::2, ::2] + kept[:, 1::2, ::2] + kept[:, ::2, 1::2] + kept[:, 1::2, 1::2]) / np.float32(4)
    return made


def _spectrum(found: dict[str, Any], grey: Grey) -> None:
    height, width = grey.shape[1:]
    window = np.hanning(height)[:, None] * np.hanning(width)[None]
    centred = (grey[::2] - grey[::2].mean(axis=(1, 2), keepdims=True)) * window.astype(np.float32)
    power = (np.abs(np.fft.rfft2(centred, axes=(1, 2))) ** 2).mean(axis=0)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius, angle = np.hypot(fy, fx), np.arctan2(fy, fx)
    edges = (0.02, 0.06, 0.12, 0.18, 0.24, 0.3, 0.36, 0.43, 0.5)
    bands = [_log(power[(radius >= low) & (radius < high)].mean(), 1e-3) for low, high in itertools.pairwise(edges)]
    for number in range(len(bands) - 1):
        found[f"slope_{number}"] = bands[number + 1] - bands[number]
    middle = (radius > 0.05) & (radius < 0.25)
    sector = np.floor((angle + np.pi / 2) / np.pi * 8).astype(int) % 8
    powers = np.array([_log(power[middle & (sector == number)].mean(), 1e-3) for number in range(8)])
    found["direction"] = np.ptp(powers)
    found["direction_spread"] = powers.std()
    for number in range(4):
        found[f"sector_{number}"] = (powers[2 * number] + powers[2 * number + 1]) / 2 - powers.mean()


def _noise(found: dict[str, Any], colour: Pixels, grey: Grey) -> None:
    diagonal = _diagonal(grey)
    found["noise"] = _log(np.median(np.abs(diagonal)) / 0.6745, 1e-3)
    found["noise_mean"] = _log(np.abs(diagonal).mean(), 1e-3)
    found["noise_tail"] = found["noise_mean"] - found["noise"]
    for name, first, second in (("red", 0, 1), ("blue", 2, 1)):
        chroma = _diagonal(colour[..., first] - colour[..., second])
        found[f"noise_{name}"] = _log(np.abs(chroma).mean(), 1e-3)
    bright = grey[:, ::2, ::2][:, : diagonal.shape[1], : diagonal.shape[2]]
    dark_half = bright < np.median(bright)
    if dark_half.any() and not dark_half.all():
        lows, highs = np.abs(diagonal[dark_half]).mean(), np.abs(diagonal[~dark_half]).mean()
        found["noise_by_light"] = _log(highs, 1e-3) - _log(lows, 1e-3)
    else:
        found["noise_by_light"] = 0.0
    for name, plane in (("", grey), ("_channel", colour[..., 0])):
        inner = plane[:, 1:-1, 1:-1]
        around = np.stack([plane[:, :-2, 1:-1], plane[:, 2:, 1:-1], plane[:, 1:-1, :-2], plane[:, 1:-1, 2:]])
        found[f"salt{name}"] = _log((inner > around.max(axis=0) + _IMPULSE).mean(), 3e-4)
        found[f"pepper{name}"] = _log((inner < around.min(axis=0) - _IMPULSE).mean(), 3e-4)
    ends = (grey <= _LEVEL) | (grey >= 1 - _LEVEL)
    found["ends"] = _log(ends.mean(), 3e-4)


def _diagonal(plane: Grey) -> Grey:
    height, width = plane.shape[1] // 2 * 2, plane.shape[2] // 2 * 2
    kept = plane[:, :height, :width]
    made: Grey = (kept[:, ::2, ::2] - kept[:, 1::2, ::2] - kept[:, ::2, 1::2] + kept[:, 1::2, 1::2]) / np.float32(2)
    return made


def _blocks(found: dict[str, Any], grey: Grey) -> None:
    for name, plane in (("x", grey), ("y", grey.transpose(0, 2, 1))):
        steps = np.abs(np.diff(plane, axis=2))
        second = np.abs(np.diff(steps, axis=2))
        for kind, given in (("", steps), ("_second", second)):
            whole = given.shape[2] // 8 * 8
            if whole < 16:
                found[f"blocks{kind}_{name}"] = 0.0
                continue
            phases = np.sort(given[:, :, :whole].reshape(*given.shape[:2], -1, 8).mean(axis=(0, 1, 2)))
            found[f"blocks{kind}_{name}"] = _log(phases[-1], 1e-3) - _log(phases[:-1].mean(), 1e-3)


def _resampling(found: dict[str, Any], grey: Grey) -> None:
    """Pixels that were interpolated bend less, at regular steps: a peak in the spectrum of how much they bend.

    After Gallagher, Detection of linear and cubic interpolation in JPEG compressed images (2005). A blur leaves none.
    """
    for name, plane in (("x", grey), ("y", grey.transpose(0, 2, 1))):
        second = np.abs(plane[:, :, 2:] - 2 * plane[:, :, 1:-1] + plane[:, :, :-2])
        bend = _log(second.mean(axis=(0, 1)), 5e-4)
        bend -= np.convolve(np.pad(bend, 4, "reflect"), np.ones(9) / 9, "valid")
        power = np.abs(np.fft.rfft(bend * np.hanning(len(bend)))) ** 2
        power = power[np.fft.rfftfreq(len(bend)) > _STEPS]
        found[f"resampled_{name}"] = _log(power.max(), 1e-2)
        found[f"resampled_ratio_{name}"] = _log(power.max(), 1e-2) - _log(np.median(power), 1e-2)


def _time(found: dict[str, Any], view: str, grey: Grey) -> None:
    if len(grey) < 2:
        raise ValueError("a window has at least two frames")
    change = np.diff(grey, axis=0)
    size = np.abs(change)
    found[f"change_{view}"] = _log(size.mean(), 5e-4)
    found[f"change_median_{view}"] = _log(np.median(size), 5e-4)
    found[f"change_tail_{view}"] = _log((size > 0.1).mean(), 3e-4)
    found[f"change_x_{view}"] = _log(np.abs(np.diff(change, axis=2)).mean(), 5e-4)
    found[f"change_y_{view}"] = _log(np.abs(np.diff(change, axis=1)).mean(), 5e-4)
    middle = _median(grey)
    away = grey - middle
    found[f"flash_{view}"] = _log((away > 0.08).mean(), 3e-4)
    found[f"dip_{view}"] = _log((away < -0.08).mean(), 3e-4)
    found[f"flash_over_dip_{view}"] = found[f"flash_{view}"] - found[f"dip_{view}"]
    still = np.abs(_diagonal(middle[None])).mean()
    found[f"fleeting_{view}"] = _log(np.abs(_diagonal(grey)).mean(), 1e-3) - _log(still, 1e-3)
    found[f"flicker_{view}"] = _log(grey.mean(axis=(1, 2)).std(), 5e-4)


def _cells(grey: Grey) -> Array:
    height, width = grey.shape[1] // CELLS * CELLS, grey.shape[2] // CELLS * CELLS
    mean = _median(grey)[:height, :width]
    shape = (CELLS, height // CELLS, CELLS, width // CELLS)
    blocks = mean.reshape(shape)
    steps = np.zeros_like(mean)
    steps[:, 1:] += np.abs(np.diff(mean, axis=1))
    steps[1:] += np.abs(np.diff(mean, axis=0))
    return np.stack(
        [
            blocks.mean(axis=(1, 3)),
            _log(blocks.std(axis=(1, 3)), 5e-3),
            _log(steps.reshape(shape).mean(axis=(1, 3)), 2e-3),
        ]
    ).astype(np.float64)
