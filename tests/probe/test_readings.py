"""Decisions as probes compare them, and inputs as pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.compare.comparison import Answer
from replay.compare.reading import agreement, read_answer, same
from replay.pipeline.edits import Edit, apply_edits
from replay.probe.tensor_image import NORMALISATIONS, TensorImage, guess_normalisation, is_image_shape
from tests.compare.answers import answer


def boxes(*rows: tuple[float, float, float, float], label: int = 1) -> Answer:
    """Boxes as a detector gives them."""
    return answer(
        {
            "boxes": np.asarray(rows, np.float32).reshape(-1, 4),
            "scores": np.full(len(rows), 0.9, np.float32),
            "labels": np.full(len(rows), label, np.int64),
        }
    )


def test_boxes_agree_by_their_overlap_and_class() -> None:
    a = read_answer(boxes((0, 0, 10, 10), (20, 20, 30, 30)), None)
    near = read_answer(boxes((1, 0, 11, 10), (20, 20, 30, 30)), None)
    one = read_answer(boxes((0, 0, 10, 10)), None)
    other = read_answer(boxes((0, 0, 10, 10), (20, 20, 30, 30), label=2), None)
    assert a is not None and near is not None and one is not None and other is not None
    assert same(a, near) and agreement(a, one) == pytest.approx(2 / 3) and agreement(a, other) == 0
    nothing = read_answer(boxes(), None)
    assert nothing is not None and agreement(nothing, nothing) == 1.0 and not same(a, nothing)


@pytest.mark.parametrize("normalisation", NORMALISATIONS, ids=lambda each: each.name)
def test_the_usual_normalisations_are_recognised_from_the_values(normalisation: object) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32)).astype(np.float64) / 255
    mean, std = (np.reshape(each, (1, -1, 1, 1)) for each in (normalisation.mean, normalisation.std))  # type: ignore[attr-defined]
    values = ((pixels - mean) / std).astype(np.float32)
    image = TensorImage(values, None)
    assert image.normalisation == normalisation and not image.assumed
    assert np.allclose(
        image.tensor(values, 0, image.pixels(values, 0)), values, atol=2e-3 * float(np.abs(values).max())
    )


def test_values_of_no_usual_range_stand_for_their_own() -> None:
    values = np.linspace(-40, 900, 3 * 16 * 16, dtype=np.float32).reshape(1, 3, 16, 16)
    assert guess_normalisation(np.moveaxis(values, 1, -1), 3) is None
    image = TensorImage(values, None)
    assert image.assumed and np.allclose(image.tensor(values, 0, image.pixels(values, 0)), values, atol=0.02)


def test_only_what_can_be_a_picture_is_taken_for_one() -> None:
    assert is_image_shape((1, 3, 32, 32)) and is_image_shape((32, 32, 3)) and is_image_shape((4, 1, 28, 28))
    assert not is_image_shape((1, 1000)) and not is_image_shape((1, 64, 7, 7)) and not is_image_shape((2, 3, 4, 4))


@given(
    st.sampled_from([("warmth", 1.2), ("light", 45.0), ("zoom", 0.8), ("zoom", 1.25)]),
    st.sampled_from([np.uint8, np.uint16]),
)
def test_changes_of_light_and_distance_keep_shape_and_depth(edit: tuple[str, float], dtype: type) -> None:
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (17, 23, 3), dtype=dtype)
    changed = apply_edits(pixels, [Edit(name=edit[0], amount=edit[1])])
    assert changed.shape == pixels.shape and changed.dtype == pixels.dtype and not np.array_equal(changed, pixels)


def test_light_from_the_right_brightens_the_right() -> None:
    pixels = np.full((8, 9), 100, np.uint8)
    changed = apply_edits(pixels, [Edit(name="light", amount=0.0)])
    assert changed[0, 0] == 50 and changed[0, -1] == 150 and changed[0, 4] == 100
    above = apply_edits(pixels, [Edit(name="light", amount=90.0)])
    assert above[0, 4] == 150 and above[-1, 4] == 50


def test_scores_that_are_not_finite_make_no_confidence() -> None:
    """Else the findings' JSON would be none."""
    scores = answer({"boxes": np.zeros((1, 4), np.float32), "scores": np.asarray([np.nan], np.float32)})
    found = read_answer(scores, None)
    mask = read_answer(answer(np.full((1, 2, 4, 4), np.inf, np.float32)), None)
    assert found is None or found.confidence is None
    assert mask is not None and mask.confidence is None
    assert read_answer(answer(np.full((1, 3), np.nan, np.float32)), None) is None
