"""A difference between two model inputs is named only when undoing it explains it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.pipeline.skew import name_skew
from tests.pipeline.conftest import picture

MEAN = np.asarray([0.485, 0.456, 0.406])[:, None, None]
STD = np.asarray([0.229, 0.224, 0.225])[:, None, None]


def chw(seed: int = 0) -> np.ndarray[Any, Any]:
    return picture(seed % 3, seed).transpose(2, 0, 1)[None, :, :40, :40].astype(np.float64)


def normalised(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((pixels / 255 - MEAN) / STD)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x: normalised(x[:, ::-1]), "reverse order"),
        (lambda x: normalised(x)[..., ::-1], "mirrored left to right"),
        (lambda x: normalised(x)[..., ::-1, :], "upside down"),
        (lambda x: normalised(x).swapaxes(2, 3), "rows and columns are exchanged"),
        (lambda x: x / 255, "another normalisation"),
        (lambda x: np.roll(normalised(x), (3, -2), (2, 3)), "shifted by -2 px across and +3 px down"),
        (lambda x: normalised(x).transpose(0, 2, 3, 1), "axes are in another order"),
        (lambda x: normalised(x)[..., :20], "its size is another"),
        (lambda x: normalised(x) + np.random.default_rng(0).normal(0, 0.05, x.shape), "relative L2"),
        (lambda x: np.random.default_rng(0).normal(0, 1, x.shape), "another picture"),
    ],
)
def test_each_skew_has_its_name(change: Any, named: str) -> None:
    assert named in name_skew(normalised(chw()), change(chw()))


def test_the_range_of_the_values_is_named() -> None:
    pixels = chw()
    assert "the division by 255 is missing" in name_skew(pixels / 255, pixels)
    assert "divided by 255 once too often" in name_skew(pixels, pixels / 255)


def test_a_channel_axis_at_the_end_is_seen_as_well() -> None:
    pixels = picture(1).astype(np.float32)
    assert "reverse order" in name_skew(pixels, pixels[..., ::-1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=0, max_size=5), st.lists(st.integers(1, 6), min_size=0, max_size=5))
def test_no_two_arrays_are_too_odd_to_compare(first: list[int], second: list[int]) -> None:
    generator = np.random.default_rng(len(first))
    assert name_skew(generator.normal(size=first), generator.normal(size=second))
    odd = np.full(first, np.nan)
    assert name_skew(odd, odd)
    assert name_skew(np.zeros(first), np.zeros(first))
