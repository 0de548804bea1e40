"""The verdict ladder: which differences between two answers reach which level."""

from __future__ import annotations

import numpy as np
import pytest

from replay.compare import tolerance
from replay.compare.comparison import compare_answers
from replay.verdict import Level
from tests.compare.answers import Boxes, Unknown, answer

RNG = np.random.default_rng(7)
IMAGE = RNG.standard_normal((2, 3, 8, 5), dtype=np.float32)


def _float32_from_bits(*bits: int) -> np.ndarray:
    return np.array(bits, dtype=np.uint32).view(np.float32)


def test_equal_bytes_are_bit_exact_whatever_the_container():
    """Every supported form of answer is bit-exact with itself."""
    thing = {"a": IMAGE, 3: [np.arange(4), (True, None, "cat", 2.5, float("nan"))], "r": Boxes(x=IMAGE > 0)}
    comparison = compare_answers(answer(thing), answer(thing))
    assert comparison.level is Level.BIT_EXACT
    assert comparison.first_difference is None
    assert (comparison.compared, comparison.differing) == (8, 0)


def test_another_nan_payload_is_within_tolerance_and_not_bit_exact():
    """Bytes decide bit-exactness; NaN masks decide tolerance."""
    quiet, payload = _float32_from_bits(0x7FC00000, 0x3F800000), _float32_from_bits(0x7FC00001, 0x3F800000)
    assert compare_answers(answer(quiet), answer(payload)).level is Level.WITHIN_TOLERANCE


def test_a_signalling_nan_is_compared_without_a_warning():
    """Widening a signalling NaN must not set off numpy's floating-point warnings."""
    signalling, quiet = _float32_from_bits(0x7F800001, 0x3F800000), _float32_from_bits(0x7FC00001, 0x3F800000)
    assert compare_answers(answer(signalling), answer(quiet)).level is Level.WITHIN_TOLERANCE


def test_zero_of_another_sign_is_within_tolerance_and_not_bit_exact():
    """-0 equals +0 as a number, and not as bytes."""
    comparison = compare_answers(answer(np.array([0.0, 1.0])), answer(np.array([-0.0, 1.0])))
    assert comparison.level is Level.WITHIN_TOLERANCE
    assert comparison.first_difference.max_abs == 0.0


def test_equal_values_in_another_memory_format_are_within_tolerance():
    """channels_last holds the same numbers in another order."""
    channels_last = np.ascontiguousarray(IMAGE.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    comparison = compare_answers(answer(IMAGE), answer(channels_last))
    assert comparison.level is Level.WITHIN_TOLERANCE
    assert "strides" in comparison.first_difference.what


def test_strides_of_axes_with_one_element_do_not_count():
    """Torch leaves them arbitrary and they address nothing."""
    a = np.ones((1, 4), dtype=np.float32)
    b = np.lib.stride_tricks.as_strided(a, shape=(1, 4), strides=(400, 4))
    assert compare_answers(answer(a), answer(b)).level is Level.BIT_EXACT


@pytest.mark.parametrize(
    ("dtype", "relative", "level"),
    [
        ("float64", 1e-13, Level.WITHIN_TOLERANCE),
        ("float64", 1e-11, Level.DIVERGED),
        ("float32", 3e-6, Level.WITHIN_TOLERANCE),
        ("float32", 3e-5, Level.DIVERGED),
        ("float16", 1e-3, Level.WITHIN_TOLERANCE),
        ("float16", 5e-3, Level.DIVERGED),
        ("complex64", 3e-6, Level.WITHIN_TOLERANCE),
        ("complex128", 1e-11, Level.DIVERGED),
    ],
)
def test_each_dtype_has_its_tolerance(dtype: str, relative: float, level: Level):
    """Tolerance is the precision's, relative to the whole tensor."""
    a = np.linspace(1, 2, 101).astype(dtype)
    b = (a * (1 + relative)).astype(dtype)
    assert compare_answers(answer(a), answer(b)).level is level


def test_autocast_widens_the_tolerance_of_float32_and_not_of_float64():
    """The compute precision counts, not the one the answer was returned in."""
    for dtype, level in (("float32", Level.WITHIN_TOLERANCE), ("float64", Level.DIVERGED)):
        a = np.linspace(1, 2, 11).astype(dtype)
        comparison = compare_answers(answer(a), answer(a * np.asarray(1.01, dtype)), autocast_dtype="torch.bfloat16")
        assert comparison.level is level


def test_one_element_far_off_is_not_hidden_by_a_large_tensor():
    """The maximum has its own bound beside the norm."""
    a = np.ones(10**6, dtype=np.float32)
    b = a.copy()
    b[5] += 2e-4
    assert compare_answers(answer(a), answer(b)).level is Level.DIVERGED


def test_integers_and_bools_have_to_be_equal():
    """An index has no tolerance."""
    a = np.arange(1000)
    b = a + (a == 999)
    comparison = compare_answers(answer(a), answer(b))
    assert comparison.level is Level.DIVERGED
    assert comparison.first_difference.what == "1 of 1000 elements differ"
    assert compare_answers(answer(a > 3), answer(a > 4)).level is Level.DIVERGED


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_a_special_value_in_another_place_diverges(special: float):
    """NaN and each infinity are places, not numbers."""
    a = np.array([1.0, special, 3.0, 4.0], dtype=np.float32)
    b = np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32)
    assert compare_answers(answer(a), answer(a)).level is Level.BIT_EXACT
    for left, right in ((a, b), (b, a), (a, -a)):
        assert compare_answers(answer(left), answer(right)).level is Level.DIVERGED


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.7e308, -1.7e308], [-1.7e308, 1.7e308]),
        ([0.0, 0.0], [0.0, 5e-324]),
        ([5e-324, 0.0], [0.0, 0.0]),
        ([1e-320, 1.0], [1e-320, 1e300]),
        ([0.0, 0.0], [np.inf, np.nan]),
    ],
)
def test_extreme_values_diverge_without_overflow_division_or_warning(a: list[float], b: list[float]):
    """Norms are scaled; a zero reference makes every error infinite."""
    assert compare_answers(answer(np.array(a)), answer(np.array(b))).level is Level.DIVERGED


def test_huge_values_are_compared_within_their_tolerance():
    """The squares of these would overflow."""
    a = np.full(1000, 1.7e308)
    assert compare_answers(answer(a), answer(a * (1 - 1e-14))).level is Level.WITHIN_TOLERANCE


@pytest.mark.parametrize("chunk", [1, 7, 1 << 18])
def test_the_result_does_not_depend_on_the_size_of_the_pieces(monkeypatch: pytest.MonkeyPatch, chunk: int):
    """Large tensors are walked in pieces, in either memory order."""
    monkeypatch.setattr(tolerance, "_CHUNK_ELEMENTS", chunk)
    b = IMAGE + np.float32(1e-6)
    turned = np.ascontiguousarray(b.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0)
    for other in (b, turned):
        comparison = compare_answers(answer(IMAGE), answer(other))
        assert comparison.level is Level.WITHIN_TOLERANCE
        assert comparison.first_difference.max_abs == pytest.approx(1e-6, rel=0.2)
        assert comparison.first_difference.rel_l2 == pytest.approx(1e-6, rel=0.2)


def test_an_expanded_tensor_is_compared_in_logical_order():
    """Strides that are not dense mean bytes in C order."""
    expanded = np.broadcast_to(np.arange(3, dtype=np.float32), (4, 3))
    assert compare_answers(answer(expanded), answer(expanded)).level is Level.BIT_EXACT
    comparison = compare_answers(answer(expanded), answer(np.ascontiguousarray(expanded)))
    assert comparison.level is Level.WITHIN_TOLERANCE


def test_an_empty_tensor_equals_an_empty_tensor():
    """No boxes found is an answer."""
    assert compare_answers(answer(np.zeros((0, 4))), answer(np.zeros((0, 4)))).level is Level.BIT_EXACT
    assert compare_answers(answer(np.zeros((0, 4))), answer(np.zeros((0, 5)))).level is Level.DIVERGED


@pytest.mark.parametrize(
    ("recorded", "replayed", "place"),
    [
        ([IMAGE, IMAGE], [IMAGE], "output"),
        ((IMAGE,), [IMAGE], "output"),
        ({"a": {"b": IMAGE}}, {"a": {"c": IMAGE}}, "output['a']['b']"),
        ({"a": IMAGE}, {"a": IMAGE, "b": 1}, "output['b']"),
        ([IMAGE, {"m": IMAGE}], [IMAGE, {"m": IMAGE[:1]}], "output[1]['m']"),
        ([IMAGE, {"m": IMAGE}], [IMAGE, {"m": None}], "output[1]['m']"),
        (Boxes(x=IMAGE, y=3), Boxes(x=IMAGE, y=4), "output.y"),
        (Boxes(x=IMAGE), {"x": IMAGE}, "output"),
        ([1, 2], [1, True], "output[1]"),
        (["a"], ["b"], "output[0]"),
        (IMAGE, (IMAGE > 0), "output"),
    ],
)
def test_another_structure_diverges_and_names_the_place(recorded: object, replayed: object, place: str):
    """Structure comes before numbers."""
    comparison = compare_answers(answer(recorded), answer(replayed))
    assert comparison.level is Level.DIVERGED
    assert comparison.first_difference.where == place
    assert comparison.first_difference.what


def test_the_first_difference_is_the_first_that_explains_the_level():
    """A rounding difference further up is not what made the answer diverge."""
    a = {"first": np.ones(3, np.float32), "second": np.arange(3)}
    b = {"first": np.ones(3, np.float32) * np.float32(1 + 1e-6), "second": np.arange(3) + 1}
    comparison = compare_answers(answer(a), answer(b), where="call 3 (net) output")
    assert comparison.first_difference.where == "call 3 (net) output['second']"
    assert comparison.differing == 2


def test_floating_scalars_have_the_tolerance_of_float32():
    """A Python float mostly comes out of a tensor's item()."""
    assert compare_answers(answer(0.5), answer(0.5 + 1e-7)).level is Level.WITHIN_TOLERANCE
    assert compare_answers(answer(0.5), answer(0.51)).level is Level.DIVERGED
    assert compare_answers(answer(float("inf")), answer(float("-inf"))).level is Level.DIVERGED
    assert compare_answers(answer(0.0), answer(-0.0)).level is Level.WITHIN_TOLERANCE


def test_an_object_that_was_not_recorded_is_named_as_unchecked():
    """What could not be recorded is not silently called equal."""
    comparison = compare_answers(answer([IMAGE, Unknown()]), answer([IMAGE, Unknown()]))
    assert comparison.level is Level.BIT_EXACT
    assert comparison.unchecked == ("output[1]",)
    assert compare_answers(answer(Unknown()), answer(Unknown())).level is Level.INCONCLUSIVE


def test_bfloat16_and_float8_are_compared_as_the_numbers_they_stand_for():
    """Types numpy has no name for."""
    bits = np.array([0x3F80, 0x4000, 0x7FC0], dtype=np.uint16)
    assert compare_answers(answer(("bfloat16", bits)), answer(("bfloat16", bits + 1))).level is Level.WITHIN_TOLERANCE
    far = bits + np.array([0x80, 0, 0], dtype=np.uint16)
    assert compare_answers(answer(("bfloat16", bits)), answer(("bfloat16", far))).level is Level.DIVERGED
    ones = np.full(4, 0x38, dtype=np.uint8)  # 1.0 in e4m3
    assert compare_answers(answer(("float8_e4m3fn", ones)), answer(("float8_e4m3fn", ones))).level is Level.BIT_EXACT
    assert compare_answers(answer(("float8_e4m3fn", ones)), answer(("float8_e4m3fn", ones + 1))).level is Level.DIVERGED
