"""Tensors keep every bit, whatever the dtype, shape and order in memory."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle import BundleInvalid, BundleWriter, encodings
from recorder.bundle.tensors import dense_order, logical_array, size_in_bytes, to_array
from recorder.bundle.values import DTYPES, ITEM_SIZE_BYTES

shapes = st.lists(st.integers(0, 7), max_size=5).map(tuple)


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of C order, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


@settings(max_examples=200, deadline=None)
@given(dtype=st.sampled_from(DTYPES), shape=shapes, data=st.data())
def test_any_bits_of_any_dtype_survive_every_encoding(dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    """Random bytes hold NaN payloads, -0 and denormals; few distinct values make tables."""
    size = size_in_bytes(dtype, shape)
    alphabet = data.draw(st.integers(1, 255))
    seed = data.draw(st.integers(0, 2**32 - 1))
    original = np.random.default_rng(seed).integers(0, alphabet, size, dtype=np.uint8, endpoint=True).tobytes()
    encoding, member = encodings.encode(memoryview(original), dtype, shape, c_strides(shape))
    assert bytes(encodings.decode(member, encoding, ITEM_SIZE_BYTES[dtype], size)) == original


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "hwc"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_normalised_eight_bit_images_become_tables_or_planes(layout: str, dtype: str) -> None:
    """256 distinct values a channel: codes in each memory order, planes where channels are; the bytes come back."""
    random = np.random.default_rng(1)
    shared = np.cumsum(random.integers(-3, 4, (64, 64, 1)), axis=1) + 128  # what channels of a picture have in common
    image = (shared + np.array([0, 9, 20]) + random.integers(0, 2, (64, 64, 3))).astype(np.uint8)
    array = image.astype(dtype) / np.asarray([3, 5, 7], dtype) if dtype.startswith("float") else image.astype(dtype)
    array = array[None] if layout == "hwc" else array.transpose(2, 0, 1)[None]
    if layout == "contiguous":
        array = np.ascontiguousarray(array)
    strides = tuple(step // array.itemsize for step in array.strides)
    order = dense_order(array.shape, strides)
    assert order is not None
    original = array.transpose(order).tobytes()
    encoding, member = encodings.encode(memoryview(original), array.dtype.name, array.shape, strides)
    assert encoding == ("planes" if layout == "contiguous" else "table")
    decoded = encodings.decode(member, encoding, array.itemsize, len(original))
    assert bytes(decoded) == original
    assert np.array_equal(logical_array(decoded, array.dtype.name, array.shape, strides), array)


def test_smooth_floats_are_shuffled_and_noise_stays_raw() -> None:
    """The sample decides: bytes of like significance compress better side by side, random bits do not."""
    smooth = np.linspace(1, 2, 50_000, dtype=np.float32)
    noise = np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8)
    assert encodings.encode(memoryview(smooth.tobytes()), "float32", smooth.shape, (1,))[0] == "shuffle"
    assert encodings.encode(memoryview(noise.tobytes()), "float32", (50_000,), (1,))[0] == "raw"


def test_a_late_257th_value_makes_no_table() -> None:
    """Values the sample did not show are found, and counted."""
    values = np.tile(np.arange(256, dtype=np.float32), 400)
    values[-5] = -1.0
    encoding, member = encodings.encode(memoryview(values.tobytes()), "float32", values.shape, (1,))
    assert encoding != "table"
    values[-5] = 7.0
    values[-9] = 300.0
    values[values == 255.0] = 300.0
    encoding, member = encodings.encode(memoryview(values.tobytes()), "float32", values.shape, (1,))
    assert encoding == "table"
    assert bytes(encodings.decode(member, "table", 4, values.nbytes)) == values.tobytes()


@settings(max_examples=300, deadline=None)
@given(
    member=st.binary(max_size=64),
    encoding=st.sampled_from(["raw", "shuffle", "table", "planes"]),
    size=st.integers(0, 64),
)
def test_a_hostile_member_decodes_to_the_stated_size_or_is_refused(member: bytes, encoding: str, size: int) -> None:
    """No other exception, no other length."""
    try:
        decoded = encodings.decode(member, encoding, 4, size * 4)
    except BundleInvalid:
        return
    assert len(decoded) == size * 4


@settings(max_examples=200, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=5), data=st.data())
def test_permuted_dense_arrays_come_back_as_they_were_indexed(shape: list[int], data: st.DataObject) -> None:
    """Memory order is stored, logical order is returned."""
    permutation = data.draw(st.permutations(range(len(shape))))
    array = np.arange(math.prod(shape), dtype=np.int32).reshape(shape).transpose(permutation)
    strides = tuple(step // 4 for step in array.strides)
    order = dense_order(array.shape, strides)
    assert order is not None
    stored = array.transpose(order).tobytes()
    assert stored == np.arange(array.size, dtype=np.int32).tobytes()
    assert np.array_equal(logical_array(stored, "int32", array.shape, strides), array)


@pytest.mark.parametrize(("shape", "strides"), [((3, 4), (0, 1)), ((3, 4), (8, 1)), ((4,), (-1,)), ((2, 2), (1, 1))])
def test_strides_with_gaps_or_overlap_are_not_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Expanded, sliced and reversed views are stored in C order."""
    assert dense_order(shape, strides) is None
    data = np.arange(math.prod(shape), dtype=np.uint8).tobytes()
    assert np.array_equal(logical_array(data, "uint8", shape, strides), to_array(data, "uint8", shape))


def test_formats_numpy_lacks_become_the_same_numbers_in_float32() -> None:
    """Against torch, for every bit pattern."""
    import torch

    for dtype, kind in [("float8_e4m3fn", torch.float8_e4m3fn), ("float8_e5m2", torch.float8_e5m2)]:
        codes = np.arange(256, dtype=np.uint8)
        expected = torch.from_numpy(codes.copy()).view(kind).to(torch.float32).numpy()
        found = to_array(codes.tobytes(), dtype, (256,))
        assert np.array_equal(found, expected, equal_nan=True)
        assert np.array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(expected[~np.isnan(found)]))
    bits = np.arange(65536, dtype=np.uint16)
    expected = torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16).to(torch.float32).numpy()
    assert to_array(bits.tobytes(), "bfloat16", (65536,)).tobytes() == expected.tobytes()


def test_equal_bytes_are_stored_once_and_small_tensors_share_a_member(tmp_path: Path) -> None:
    """Also when dtype, shape or strides differ; the item size must not, an encoding depends on it."""
    with BundleWriter(tmp_path) as writer:

        def store(data: bytes, dtype: str, shape: tuple[int, ...]) -> tuple[str, int]:
            value = writer.tensor(
                data,
                container="numpy",
                dtype=dtype,
                shape=shape,
                strides=c_strides(shape),
                alignment=None,
                device="cpu",
            )
            return value.member, value.offset

        small = store(bytes(16), "float32", (4,))
        assert store(bytes(16), "int32", (2, 2)) == small
        other = store(b"12345678", "uint8", (8,))
        assert other == (small[0], 16)
        large = store(bytes(2**20), "float32", (2**18,))
        assert store(bytes(2**20), "float32", (2**18,)) == large
        assert store(bytes(2**20), "float64", (2**17,)) != large


def test_a_tensor_of_the_wrong_length_is_refused() -> None:
    """The writer never writes what the reader would refuse."""
    with tempfile.TemporaryDirectory() as directory, BundleWriter(directory) as writer, pytest.raises(ValueError):
        writer.tensor(b"123", container="torch", dtype="float32", shape=(1,), strides=(1,), alignment=0, device="cpu")
