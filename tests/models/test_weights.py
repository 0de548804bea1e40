"""Recorded weights come back as they were: the bytes, the strides, the alignment."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recorder.bundle.manifest import TensorLayout
from recorder.models import ModelStore, layouts_of, tensors_of_module, training_modules_of
from recorder.models.weights_file import SAFETENSORS_DTYPES
from replay.worker.weights import WeightsRefused, apply_weights, load_weights
from tests.models.networks import Oddities, ResNet, ViT, seeded
from tests.models.support import same_bits

DTYPES = sorted(SAFETENSORS_DTYPES, key=str)


def put(tensors: dict[str, torch.Tensor], directory: Path) -> tuple[Path, str]:
    store = ModelStore(directory)
    weights = store.put_weights(tensors)
    return store.path_of(weights.digest, "weights"), weights.digest


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    offset_bytes=st.integers(0, 63),
    data=st.data(),
)
def test_values_strides_and_alignment_survive(
    tmp_path_factory: pytest.TempPathFactory, dtype: torch.dtype, sizes: list[int], offset_bytes: int, data: Any
) -> None:
    """For every dtype, permutation and address, odd ones included."""
    order = data.draw(st.permutations(range(len(sizes))))
    dense = torch.randint(0, 2, sizes).to(dtype).permute(*order)
    memory = bytearray(dense.numel() * dtype.itemsize + 128)
    base = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
    start = (offset_bytes - base) % 64
    if dense.numel():
        flat = torch.frombuffer(memory, dtype=dtype, offset=start, count=dense.numel())
        tensor = flat.as_strided(dense.shape, dense.stride())
        tensor.copy_(dense)
    else:
        tensor = dense
    layouts = layouts_of({"w": tensor})
    path, digest = put({"w": tensor}, tmp_path_factory.mktemp("store"))
    loaded = load_weights(path, digest, layouts)["w"]
    assert loaded.dtype == dtype and loaded.shape == tensor.shape
    # The stride of an axis of one element is never taken; torch's own is_contiguous() does not look at it.
    taken = [axis for axis, size in enumerate(tensor.shape) if size > 1 and tensor.numel()]
    assert [loaded.stride(axis) for axis in taken] == [tensor.stride(axis) for axis in taken]
    assert torch.equal(
        loaded.float() if dtype.itemsize == 1 else loaded, tensor.float() if dtype.itemsize == 1 else tensor
    )
    if tensor.numel():
        assert loaded.data_ptr() % 64 == tensor.data_ptr() % 64


def test_an_expanded_weight_stays_expanded(tmp_path: Path) -> None:
    """One row of memory stands for all."""
    tensor = torch.arange(4.0).expand(3, 4)
    path, digest = put({"w": tensor}, tmp_path)
    loaded = load_weights(path, digest, layouts_of({"w": tensor}))["w"]
    assert loaded.stride() == (0, 1) and torch.equal(loaded, tensor)


def test_one_altered_byte_is_another_digest(tmp_path: Path) -> None:
    """What is hashed is what is loaded."""
    path, digest = put(tensors_of_module(seeded(ResNet)), tmp_path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsRefused, match="not the recorded"):
        load_weights(path, digest, {})


def test_a_missing_file_is_a_sentence_with_the_remedy(tmp_path: Path) -> None:
    """Point --models at the store."""
    with pytest.raises(WeightsRefused, match="--models"):
        load_weights(tmp_path / "absent.safetensors", "0" * 64, {})


def safetensors_file(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def entry(begin: Any, end: Any, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        safetensors_file({}, length=2**62),
        safetensors_file({}, length=1000),
        safetensors_file(b"[" * 5000),
        safetensors_file(b"\xff"),
        safetensors_file([]),
        safetensors_file({"w": 1}),
        safetensors_file({"w": entry(0, 4)}),
        safetensors_file({"w": entry(0, 4)}, b"\0" * 5),
        safetensors_file({"w": entry(4, 8)}, b"\0" * 8),
        safetensors_file({"w": entry(0, 4), "v": entry(0, 4)}, b"\0" * 4),
        safetensors_file({"w": entry(0, 4, [2**60, 2**60])}, b"\0" * 4),
        safetensors_file({"w": entry(0, 4, [-1])}, b"\0" * 4),
        safetensors_file({"w": entry(0, 4, [1.0])}, b"\0" * 4),
        safetensors_file({"w": entry(0, 4, [1] * 100)}, b"\0" * 4),
        safetensors_file({"w": entry(0, 4, dtype="OBJECT")}, b"\0" * 4),
        safetensors_file({"w": entry(0, 4, dtype=["F32"])}, b"\0" * 4),
        safetensors_file({"w": entry(-4, 0)}, b""),
        safetensors_file(b'{"w":{"dtype":"F32","shape":[' + b"9" * 9999 + b'],"data_offsets":[0,4]}}', b"\0" * 4),
    ],
    ids=lambda data: repr(data[:60]),
)
def test_a_hostile_file_is_refused_although_its_digest_is_right(data: bytes, tmp_path: Path) -> None:
    """Before any memory is had for it."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsRefused) as caught:
        load_weights(path, hashlib.sha256(data).hexdigest(), {})
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "layout",
    [
        TensorLayout(strides=(2**40,), alignment=0),
        TensorLayout(strides=(-1,), alignment=0),
        TensorLayout(strides=(1, 1), alignment=0),
        TensorLayout(strides=(1,), alignment=64),
        TensorLayout(strides=(1,), alignment=-8),
    ],
    ids=str,
)
def test_a_layout_that_fits_no_tensor_is_refused(layout: TensorLayout, tmp_path: Path) -> None:
    """Strides come from the bundle and could ask for any memory."""
    path, digest = put({"w": torch.ones(8)}, tmp_path)
    with pytest.raises(WeightsRefused, match="damaged"):
        load_weights(path, digest, {"w": layout})


@pytest.mark.parametrize("kind", [ResNet, ViT])
def test_a_factorys_module_takes_the_recorded_weights(kind: type[nn.Module], tmp_path: Path) -> None:
    """In place of its own, and answers with the recorded bits."""
    recorded = seeded(kind).to(memory_format=torch.channels_last)
    tensors = tensors_of_module(recorded)
    path, digest = put(tensors, tmp_path)
    fresh = kind()
    loaded = load_weights(path, digest, layouts_of(tensors))
    apply_weights(fresh, loaded, training_modules_of(recorded))
    assert all(tensor.data_ptr() == loaded[name].data_ptr() for name, tensor in tensors_of_module(fresh).items())
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert not fresh.training and same_bits(fresh(image), recorded(image))


def test_ties_containers_and_training_flags_are_restored(tmp_path: Path) -> None:
    """What was one tensor is one tensor again."""
    recorded, fresh = seeded(Oddities), Oddities()
    recorded.embed.train()
    path, digest = put(tensors_of_module(recorded), tmp_path)
    apply_weights(fresh, load_weights(path, digest, {}), training_modules_of(recorded))
    assert fresh.decode.weight is fresh.embed.weight and fresh.decode.weight.requires_grad
    assert training_modules_of(fresh) == ("embed",)
    assert isinstance(fresh.anchors[1], tuple)
    vector = torch.rand(3, 8)
    assert same_bits(fresh(vector), recorded(vector))


@pytest.mark.parametrize(
    ("tensors", "training", "part"),
    [
        ({"weight": torch.zeros(2, 2)}, (), "'bias' that the recorded weights lack"),
        (dict.fromkeys(["weight", "bias", "a", "b", "c", "d"], torch.zeros(2)), (), "and 1 more"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, (), r"\(3, 2\)"),
        ({"weight": torch.zeros(2, 2).double(), "bias": torch.zeros(2)}, (), "float64"),
        ({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, ("head",), "'head'"),
    ],
)
def test_another_architecture_is_refused_in_one_sentence(
    tensors: dict[str, torch.Tensor], training: tuple[str, ...], part: str
) -> None:
    """And the module stays as it was."""
    module = nn.Linear(2, 2)
    before = dict(tensors_of_module(module))
    with pytest.raises(WeightsRefused, match=part):
        apply_weights(module, tensors, training)
    assert all(tensor is before[name] for name, tensor in tensors_of_module(module).items())
