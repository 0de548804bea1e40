"""Corruptions made by albumentations: written by others, on full frames, no kin of what a profile is fitted on.

Each kind has a mild and a strong form. What stands still in a real fault (a blur's direction, a shift) is drawn once
for an incident; noise, rain and snow fall anew on every frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FOREIGN", "made_by_others"]

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version
Frame = npt.NDArray[np.uint8]


def _tone(brightness: float) -> Callable[[Any], Any]:
    return lambda a: a.RandomBrightnessContrast((brightness,) * 2, (0, 0), brightness_by_max=True, p=1)


def _flat(contrast: float) -> Callable[[Any], Any]:
    # RandomBrightnessContrast's contrast is a gain: it darkens. This one goes towards the mean.
    return lambda a: a.ColorJitter((1, 1), (contrast,) * 2, (1, 1), (0, 0), p=1)


def _shifted(share: float) -> Callable[[Any], Any]:
    return lambda a: a.Affine(translate_percent={"x": (share, share), "y": (-share / 2,) * 2}, border_mode=4, p=1)


#: By kind: the cause it is, whether every frame is drawn anew, and how it is made, mild and strong.
FOREIGN: dict[str, tuple[str, bool, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "brightness down": ("darker", False, (_tone(-0.15), _tone(-0.3))),
    "gamma, darker": (
        "darker",
        False,
        (lambda a: a.RandomGamma((160, 160), p=1), lambda a: a.RandomGamma((240, 240), p=1)),
    ),
    "brightness up": ("brighter", False, (_tone(0.15), _tone(0.3))),
    "towards grey": ("low-contrast", False, (_flat(0.65), _flat(0.4))),
    "defocus": (
        "defocus",
        False,
        (lambda a: a.Defocus((2, 2), (0.1, 0.1), p=1), lambda a: a.Defocus((4, 4), (0.1, 0.1), p=1)),
    ),
    "Gaussian blur": (
        "defocus",
        False,
        (lambda a: a.GaussianBlur(sigma_limit=(1.2, 1.2), p=1), lambda a: a.GaussianBlur(sigma_limit=(3, 3), p=1)),
    ),
    "motion blur": (
        "motion-blur",
        False,
        (lambda a: a.MotionBlur((7, 7), p=1), lambda a: a.MotionBlur((15, 15), p=1)),
    ),
    "Gaussian noise": (
        "noise",
        True,
        (lambda a: a.GaussNoise((0.04, 0.04), p=1), lambda a: a.GaussNoise((0.1, 0.1), p=1)),
    ),
    "ISO noise": (
        "noise",
        True,
        (
            lambda a: a.ISONoise((0.02, 0.02), (0.3, 0.3), p=1),
            lambda a: a.ISONoise((0.05, 0.05), (0.8, 0.8), p=1),
        ),
    ),
    "shot noise": ("noise", True, (lambda a: a.ShotNoise((0.03, 0.03), p=1), lambda a: a.ShotNoise((0.2, 0.2), p=1))),
    "salt and pepper": (
        "impulse-noise",
        True,
        (lambda a: a.SaltAndPepper((0.01, 0.01), p=1), lambda a: a.SaltAndPepper((0.05, 0.05), p=1)),
    ),
    "JPEG": (
        "compression",
        False,
        (lambda a: a.ImageCompression("jpeg", (25, 25), p=1), lambda a: a.ImageCompression("jpeg", (10, 10), p=1)),
    ),
    "downscale": (
        "low-resolution",
        False,
        (lambda a: a.Downscale((0.5, 0.5), p=1), lambda a: a.Downscale((0.25, 0.25), p=1)),
    ),
    "fog": (
        "fog",
        False,
        (
            lambda a: a.RandomFog(fog_coef_range=(0.4, 0.4), alpha_coef=0.1, p=1),
            lambda a: a.RandomFog(fog_coef_range=(0.8, 0.8), alpha_coef=0.12, p=1),
        ),
    ),
    "rain": (
        "rain",
        True,
        (
            lambda a: a.RandomRain(rain_type="drizzle", blur_value=2, brightness_coefficient=0.95, p=1),
            lambda a: a.RandomRain(rain_type="heavy", blur_value=3, brightness_coefficient=0.85, p=1),
        ),
    ),
    "snow": (
        "snow",
        True,
        (
            lambda a: a.RandomSnow(snow_point_range=(0.15, 0.15), method="texture", p=1),
            lambda a: a.RandomSnow(snow_point_range=(0.3, 0.3), method="texture", p=1),
        ),
    ),
    "RGB shift": (
        "colour-cast",
        False,
        (
            lambda a: a.RGBShift((18, 18), (0, 0), (-18, -18), p=1),
            lambda a: a.RGBShift((45, 45), (0, 0), (-45, -45), p=1),
        ),
    ),
    "shift": ("camera-shift", False, (_shifted(0.03), _shifted(0.1))),
    "rotate": (
        "camera-rotation",
        False,
        (lambda a: a.Rotate((2, 2), border_mode=4, p=1), lambda a: a.Rotate((7, 7), border_mode=4, p=1)),
    ),
    "one hole": (
        "occlusion",
        False,
        (
            lambda a: a.CoarseDropout((1, 1), (0.3, 0.3), (0.3, 0.3), fill=60, p=1),
            lambda a: a.CoarseDropout((1, 1), (0.5, 0.5), (0.5, 0.5), fill=60, p=1),
        ),
    ),
    "channels swapped": ("channel-order", False, (lambda a: _Swapped(), lambda a: _Swapped())),
}


class _Swapped:
    """Red for blue: `ChannelShuffle` may draw the order that is there already."""

    def __call__(self, image: Frame) -> dict[str, Frame]:
        return {"image": np.ascontiguousarray(image[..., ::-1])}


def made_by_others(frames: Sequence[Frame], kind: str, strong: bool, seed: int) -> list[Frame]:
    """Return (height, width, 3) frames of one incident with such a corruption."""
    import albumentations

    _, anew, forms = FOREIGN[kind]
    transform = forms[strong](albumentations)
    made = []
    for number, frame in enumerate(frames):
        if not isinstance(transform, _Swapped):
            transform.set_random_seed(seed + number if anew else seed)
        made.append(transform(image=frame)["image"])
    return made
