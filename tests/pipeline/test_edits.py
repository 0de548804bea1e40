"""Edits of an image for a what-if keep its form, do what they say, and refuse what they cannot do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.pipeline.edits import EDITS, apply_edits, parse_edit
from tests.pipeline.conftest import picture


def edited(pixels: np.ndarray[Any, Any], *texts: str) -> np.ndarray[Any, Any]:
    return apply_edits(pixels, [parse_edit(*text.split("=")) for text in texts])


#: What leaves an image as it is.
NOTHING = ["brightness=1", "contrast=1", "saturation=1", "gamma=1", "blur=0", "noise=0", "shift_x=0", "shift_y=0"]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(EDITS)),
    st.sampled_from([(), (1,), (3,), (4,)]),
    st.sampled_from([np.uint8, np.uint16]),
    st.floats(0, 1),
)
def test_an_edit_keeps_shape_and_dtype_or_refuses(
    name: str, channels: tuple[int, ...], dtype: Any, share: float
) -> None:
    kind = EDITS[name]
    least, most = max(kind.least, -50), min(kind.most, 50)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7, *channels)).astype(dtype)
    before = pixels.copy()
    try:
        after = edited(pixels, f"{name}={least + share * (most - least)}")
    except ValueError as error:
        assert f"image.{name} needs" in str(error)
    else:
        assert after.shape == pixels.shape and after.dtype == pixels.dtype
        if channels == (4,) and name in ("brightness", "contrast", "gamma"):
            assert np.array_equal(after[..., 3], pixels[..., 3])  # alpha is no light
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("text", [*NOTHING, "rotate=0", "swap_channels=0"])
def test_the_neutral_amount_changes_nothing(text: str) -> None:
    assert np.array_equal(edited(picture(0), text), picture(0))


def test_edits_do_what_they_say() -> None:
    pixels = picture(0)
    assert np.array_equal(edited(pixels, "brightness=0.5"), np.rint(pixels * 0.5).astype(np.uint8))
    assert np.array_equal(edited(pixels, "swap_channels=1"), pixels[..., ::-1])
    assert np.array_equal(edited(pixels, "shift_x=2")[:, 2:], pixels[:, :-2])
    assert np.array_equal(edited(pixels, "shift_y=-3")[:-3], pixels[3:])
    assert np.array_equal(edited(np.flip(pixels[:40], (0, 1)), "rotate=180"), pixels[:40])
    grey = edited(pixels, "saturation=0").astype(int)
    assert np.abs(grey[..., 0] - grey[..., 2]).max() <= 1
    assert edited(pixels, "blur=2").std() < pixels.std()
    assert np.array_equal(edited(pixels, "noise=5"), edited(pixels, "noise=5"))  # a what-if can be repeated
    fine, coarse = (np.abs(edited(pixels, f"jpeg={quality}").astype(int) - pixels).mean() for quality in (95, 10))
    assert 0 < fine < coarse


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("sparkle", "1", "choose from brightness"),
        ("brightness", "-1", "from 0 to 100"),
        ("jpeg", "nan", "a JPEG quality"),
    ],
)
def test_other_names_and_amounts_are_refused_with_the_choices(name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_edit(name, text)
