"""Properties of the comparison that hold for every answer."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from recorder.bundle.tensors import dense_order
from replay.compare.comparison import compare_answers
from replay.compare.layout import logical_bits
from replay.verdict import Level
from tests.compare.answers import Unknown, answer, tensor_value

DTYPES = ["bool", "uint8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, dtypes: list[str] = DTYPES) -> np.ndarray:
    """Arrays of any bit pattern, in any order of axes, sliced or expanded."""
    dtype, shape = np.dtype(draw(st.sampled_from(dtypes))), draw(SHAPES)
    if dtype.kind == "b":
        array = draw(npst.arrays(dtype, shape))
    else:
        size = int(np.prod(shape, dtype=int)) * dtype.itemsize
        array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype=dtype).reshape(shape)
    order = draw(st.permutations(range(len(shape))))
    array = np.ascontiguousarray(array).reshape(shape).transpose(order)
    if array.ndim and draw(st.booleans()):
        array = array[::2]
    return array


def answers() -> st.SearchStrategy[object]:
    """Nested answers with tensors, scalars and objects that were not recorded."""
    leaf = st.one_of(
        arrays(), st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=3), st.builds(Unknown)
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.one_of(st.text(max_size=2), st.integers(0, 3)), inner, max_size=3),
        ),
        max_leaves=6,
    )


@settings(max_examples=150, deadline=None)
@given(answers())
def test_an_answer_is_bit_exact_with_itself(thing: object):
    """Reflexive, for every bit pattern, dtype, layout and structure."""
    comparison = compare_answers(answer(thing), answer(thing))
    assert comparison.differing == 0
    expected = Level.INCONCLUSIVE if comparison.unchecked and not comparison.compared else Level.BIT_EXACT
    assert comparison.level is expected


@settings(max_examples=150, deadline=None)
@given(answers(), answers())
def test_equality_and_structure_do_not_depend_on_who_recorded(one: object, other: object):
    """Bit-exactness, the number of differing leaves and the unchecked places are symmetric."""
    there, back = compare_answers(answer(one), answer(other)), compare_answers(answer(other), answer(one))
    assert (there.level is Level.BIT_EXACT) == (back.level is Level.BIT_EXACT)
    assert there.differing == back.differing
    assert there.unchecked == back.unchecked


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_pair_of_bit_patterns_compares_without_error(data: st.DataObject):
    """Special values included; warnings are errors in this test run."""
    one = data.draw(arrays(["float16", "float32", "float64", "complex64"]))
    size = one.nbytes
    other = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), dtype=one.dtype).reshape(one.shape)
    for task in (None, "classification", "embedding", "segmentation"):
        comparison = compare_answers(answer(one), answer(other), task=task, thresholds=[0.5])
        assert comparison.level in (
            Level.BIT_EXACT, Level.WITHIN_TOLERANCE, Level.SAME_DECISION, Level.DIVERGED
        )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    npst.arrays(np.float64, (3, 5), elements=st.floats(-100, 100)),
    npst.arrays(np.float64, (3, 5), elements=st.floats(-1, 1)),
    st.sampled_from([1e-14, 1e-12, 1e-9, 1e-6, 1e-3, 1.0]),
)
def test_more_of_the_same_noise_never_gives_a_better_level(values: np.ndarray, noise: np.ndarray, scale: float):
    """Monotone: scaling the noise up cannot bring an answer closer."""
    levels = [
        compare_answers(answer(values), answer(values + noise * factor), task="classification").level
        for factor in (scale, scale * 32)
    ]
    order = list(Level)
    assert order.index(levels[0]) <= order.index(levels[1])


@given(arrays())
def test_a_recorded_tensor_reads_back_as_the_array_it_was(array: np.ndarray):
    """Memory order and strides give the logical array again, for dense layouts and for those that are not."""
    value, data = tensor_value(array)
    bits = logical_bits(data, value.dtype, value.shape, value.strides)
    assert bits.shape == array.shape
    assert bits.tobytes() == array.tobytes()
    order = dense_order(array.shape, value.strides)
    assert order is None or sorted(order) == list(range(array.ndim))
