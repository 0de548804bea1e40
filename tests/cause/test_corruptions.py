"""What causes do to clean frames: every form does something, and what is meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from recorder.cause.corruptions import FORMS, corrupted
from recorder.cause.filters import blurred, disk_kernel, resized
from recorder.cause.statistics import measure
from recorder.cause.views import Views, views_of
from recorder.cause.vocabulary import FITTED
from tests.cause.conftest import scene


@pytest.fixture(scope="module")
def clean() -> Views:
    """Two frames are enough."""
    return views_of(scene(2, seed=11))


def _textured(frames: int = 2) -> Any:
    rng = np.random.default_rng(3)
    grain = blurred(rng.random((1, 96, 96, 1), np.float32), disk_kernel(0.8, soft=True))
    return np.repeat(np.repeat(np.clip(grain, 0, 1), frames, axis=0), 3, axis=3)


@pytest.mark.parametrize("cause", FITTED)
def test_each_form_is_a_picture_that_differs(clean: Views, cause: str) -> None:
    """Of the same size, within black and white, the same for the same seed; forms differ from each other."""
    made = [corrupted(clean, cause, 4, 10 * FORMS[cause] + form) for form in range(FORMS[cause])]
    for each in made:
        assert each.wide.shape == clean.wide.shape and each.detail.shape == clean.detail.shape
        assert each.wide.min() >= 0 and each.wide.max() <= 1 and np.isfinite(each.detail).all()
        assert np.abs(each.wide - clean.wide).max() > 0.02
    again = corrupted(clean, cause, 4, 10 * FORMS[cause])
    assert (again.wide == made[0].wide).all()
    assert len({each.wide.tobytes() for each in made}) == len(made)


def test_mist_takes_fine_detail_and_a_veil_does_not() -> None:
    """Both pale the picture; droplets near by scatter forward, too."""
    pixels = _textured()
    views = Views(pixels, pixels, 1.0, 96)
    names = measure(views).names

    def of(form: int, name: str) -> float:
        found = [measure(corrupted(views, "fog", 3, 2 * seed + form)).values[names.index(name)] for seed in range(6)]
        return float(np.mean(found))

    before = dict(zip(names, measure(views).values, strict=True))
    for form in (0, 1):
        assert of(form, "haze") > before["haze"] + 0.05
    assert of(1, "sharpness") < of(0, "sharpness") - 0.7


def test_what_was_interpolated_bends_at_regular_steps() -> None:
    """A picture that was made coarser and smoothed back shows it; one that is blurred as much does not."""
    sharp = _textured()
    coarse = resized(sharp, 1.7, "box", "bicubic")
    soft = blurred(sharp, disk_kernel(1.5, soft=True))
    clean, low, blurry = (
        dict(zip(found.names, found.values, strict=True))
        for found in (measure(Views(each, each, 1.0, 96)) for each in (sharp, coarse, soft))
    )
    for axis in "xy":
        name = f"resampled_{axis}"
        assert low[name] > clean[name] + 1
        assert low[name] > blurry[name] + 1
