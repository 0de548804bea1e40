"""The digest of a tensor: an exact hash, and a sketch that tells distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.layers.digest import BUCKETS, hash_tensor, is_digestible, sketch_tensor
from replay.locate.records import SKETCH_BUCKETS


def test_worker_and_parent_agree_on_the_size_of_a_sketch() -> None:
    """The parent never imports torch, so it cannot ask."""
    assert BUCKETS == SKETCH_BUCKETS


def test_the_digest_is_of_the_values_and_not_of_how_they_lie_in_memory() -> None:
    """Channels-last, a transposed view and a slice have the hash and the sketch of their contiguous copy."""
    tensor = torch.randn(2, 6, 5, 7)
    for view in (tensor.to(memory_format=torch.channels_last), tensor.transpose(1, 3), tensor[:, ::2, 1:]):
        assert hash_tensor(view) == hash_tensor(view.contiguous())
        assert np.array_equal(sketch_tensor(view), sketch_tensor(view.contiguous()))


def test_one_bit_of_one_element_changes_the_hash() -> None:
    """The sign of a zero too: bytes decide."""
    tensor = torch.zeros(1000)
    changed = tensor.clone()
    changed[500] = -0.0
    assert hash_tensor(tensor) != hash_tensor(changed)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool, torch.complex64]
)
def test_every_dtype_has_a_digest(dtype: torch.dtype) -> None:
    """Half precisions, integers, bools and complex numbers as well."""
    tensor = torch.arange(200).to(dtype)
    sketch = sketch_tensor(tensor)
    assert sketch is not None and np.isfinite(sketch).all() and hash_tensor(tensor) != hash_tensor(tensor[1:])


def test_nan_and_infinities_leave_the_sketch_finite() -> None:
    """They count as zero; the hash tells where they stand."""
    tensor = torch.tensor([1.0, float("nan"), float("inf"), -float("inf")])
    sketch = sketch_tensor(tensor)
    assert sketch is not None and np.linalg.norm(sketch) == 1.0


def test_what_has_no_elements_in_memory_is_left_out() -> None:
    """Sparse and meta tensors have no bytes to read; an empty one has a hash and no sketch."""
    assert not is_digestible(torch.zeros(2, device="meta")) and not is_digestible(torch.eye(2).to_sparse())
    assert not is_digestible("tensor")
    empty = torch.zeros(0, 3)
    assert sketch_tensor(empty) is None and len(hash_tensor(empty)) == 16


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3000), st.floats(1e-7, 1.0), st.sampled_from(["noise", "channel", "constant"]), st.integers(0, 99)
)
def test_the_sketch_estimates_a_distance_within_a_factor(size: int, scale: float, kind: str, seed: int) -> None:
    """Noise everywhere, one channel scaled, a constant added: never off by a factor of two, whatever the size."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((16, size))
    error = {
        "noise": scale * generator.standard_normal(values.shape),
        "channel": np.where(np.arange(16)[:, None] == 3, scale * values, 0.0),
        "constant": np.full(values.shape, scale),
    }[kind]
    a, b = sketch_tensor(torch.from_numpy(values)), sketch_tensor(torch.from_numpy(values + error))
    assert a is not None and b is not None
    true = np.linalg.norm(error)
    if kind != "channel" or size > 60:
        assert 0.5 < np.linalg.norm(a - b) / true < 2.0
