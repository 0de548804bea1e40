"""Redactors of images: what they must remove, and that they remove too much where they do not understand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recorder.privacy import Redactor
from recorder.privacy.redaction import RedactionFailed, redact
from recorder.privacy.redactors import downscale, fill, pixelate

PIXELS = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: arrays.arrays(
        dtype, st.one_of(st.tuples(st.integers(1, 40), st.integers(1, 40)), arrays.array_shapes(min_dims=3, max_dims=3))
    )
)
CORNER = st.integers(-50, 90) | st.floats(-50, 90, allow_nan=False)


@given(PIXELS, st.tuples(CORNER, CORNER, CORNER, CORNER))
def test_a_box_is_covered_and_the_rest_stays(pixels: np.ndarray[Any, Any], box: tuple[float, ...]) -> None:
    """Every pixel the box touches is filled, every other keeps its bits; a box without a pixel's size costs all."""
    before = pixels.copy()
    filled = fill(pixels, [box], value=7)
    assert np.array_equal(pixels, before)
    assert filled.shape == pixels.shape and filled.dtype == pixels.dtype
    inside = np.zeros(pixels.shape[:2], bool)
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        inside[:] = True
    else:
        rows, columns = np.arange(pixels.shape[0]), np.arange(pixels.shape[1])
        touched_rows = (rows + 1 > box[1]) & (rows < box[3])
        touched_columns = (columns + 1 > box[0]) & (columns < box[2])
        inside = np.outer(touched_rows, touched_columns)
    assert (filled[inside] == 7).all()
    assert np.array_equal(filled[~inside], pixels[~inside])


@given(PIXELS, st.integers(2, 9))
def test_pixelated_squares_hold_one_value_near_the_mean(pixels: np.ndarray[Any, Any], block: int) -> None:
    """Over a whole image at most nine squares a side are left, whatever the block; each is its mean, rounded."""
    height, width = pixels.shape[:2]
    redacted = pixelate(pixels, [[0, 0, width, height]], block)
    edge = max(block, -(-max(height, width) // 8))
    assert len(np.unique(redacted.reshape(height, width, -1)[:, :, 0])) <= 81
    square, of = redacted[:edge, :edge], pixels[:edge, :edge].reshape(-1, *pixels.shape[2:])
    assert (square == square[0, 0]).all()
    assert np.abs(of.mean(axis=0) - square[0, 0].astype(float)).max() <= 0.5


@pytest.mark.parametrize(
    "boxes",
    [
        None, "faces", 5, {}, [[1, 2, 3]], [[0, 0, 4, float("nan")]], [[0, 0, float("inf"), 9]], [["0", 0, 9, 9]],
        [[0.1, 0.1, 0.5, 0.9]], [[9, 9, 2, 2]], [[0, 0, True, 9]], [[0, 0, 9, 9], None], [[0, 0, 2**40, 4]],
        [[0, 0, 9, 9]] * 5_000, np.array(3), b"1234",
    ],
)  # fmt: skip
def test_boxes_that_are_none_cost_the_whole_image(boxes: object) -> None:
    """Missing, of another form, or between 0 and 1: nobody knows what should have been hidden."""
    pixels = np.full((20, 30, 3), 200, np.uint8)
    assert not fill(pixels, boxes).any()
    assert not pixelate(pixels, boxes).any()


def test_no_box_is_no_change() -> None:
    """An empty list says that there is nobody in the picture."""
    pixels = np.full((20, 30), 200, np.uint16)
    assert np.array_equal(fill(pixels, []), pixels)
    assert np.array_equal(pixelate(pixels, np.zeros((0, 4)), 4), pixels)


def test_a_downscaled_image_is_smaller_everywhere() -> None:
    """By a factor or to a longest side; its pixels are means."""
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert downscale(pixels, factor=4).tolist() == [[14, 18], [46, 50]]
    assert max(downscale(np.zeros((100, 333, 3), np.uint8), max_side=50).shape) <= 50
    with pytest.raises(ValueError):
        downscale(pixels)
    with pytest.raises(ValueError):
        downscale(pixels, factor=1)


@pytest.mark.parametrize(
    "answer",
    [None, 3, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8), "raise"],
)
def test_a_function_must_return_pixels_of_its_image(answer: Any) -> None:
    """Anything else, an exception too, keeps the image from being written."""

    def function(pixels: Any, metadata: Any) -> Any:
        if isinstance(answer, str):
            raise KeyError(answer)
        return answer

    step = Redactor.function("faces.blur:all")
    pixels = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(RedactionFailed):
        redact(pixels, (step,), {}, {"faces.blur:all": function})
    with pytest.raises(RedactionFailed):
        redact(pixels, (step,), {}, {})
    with pytest.raises(RedactionFailed):
        redact(pixels, (), {})


@pytest.mark.parametrize(
    "step",
    [
        Redactor.pixelate(), Redactor.pixelate("faces", block=4), Redactor.fill("faces", value=9),
        Redactor.downscale(max_side=10), Redactor.function("a.b:c"),
    ],
)  # fmt: skip
def test_a_redactor_is_the_same_after_json(step: Redactor) -> None:
    """It travels to another process."""
    assert Redactor.from_json(step.to_json()) == step


@pytest.mark.parametrize(
    "data",
    ["blur", {}, {"blur": {}}, {"pixelate": {"block": 1}}, {"fill": {"value": -1}}, {"fill": {"x": 1}},
     {"downscale": {}}, {"function": "os.system"}, {"pixelate": {"boxes": ""}}, {"pixelate": 3}],
)  # fmt: skip
def test_what_is_no_redactor_is_refused(data: object) -> None:
    """When it is configured, not when the first image comes."""
    with pytest.raises(ValueError):
        Redactor.from_json(data)
