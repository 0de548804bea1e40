"""The weights file and the store: canonical, verified, shared, never half-written."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle.manifest import Graph
from recorder.models import (
    ModelStore,
    StoreDamaged,
    StoreUnavailable,
    WeightsChanged,
    WeightsUnreadable,
    stream_weights,
    tensors_of_module,
)
from recorder.models.weights_file import SAFETENSORS_DTYPES
from tests.models.networks import Oddities, ResNet, seeded

DTYPES = sorted(SAFETENSORS_DTYPES, key=str)


def weights_file(tensors: dict[str, torch.Tensor]) -> bytes:
    """The whole file in memory."""
    parts: list[bytes] = []
    identity = stream_weights(tensors, lambda chunk: parts.append(bytes(chunk)))
    data = b"".join(parts)
    assert identity.digest == hashlib.sha256(data).hexdigest() and identity.size_bytes == len(data)
    return data


def raw(tensor: torch.Tensor) -> bytes:
    flat = tensor.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


@settings(max_examples=60, deadline=None)
@given(shapes=st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3)), max_size=5))
def test_safetensors_itself_reads_the_file_back(shapes: list[tuple[torch.dtype, list[int]]]) -> None:
    """Every dtype it names, scalars and empty tensors included."""
    tensors = {}
    for index, (dtype, shape) in enumerate(shapes):
        tensors[f"t{index}"] = torch.randint(0, 2, shape).to(dtype)
    data = weights_file(tensors)
    with_library = safetensors.torch.load(data) if data != b"\x08\0\0\0\0\0\0\0{}      " else {}
    assert with_library.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert with_library[name].dtype == tensor.dtype and with_library[name].shape == tensor.shape
        assert raw(with_library[name]) == raw(tensor)


def test_identity_depends_on_names_and_values_not_on_memory() -> None:
    """The same weights in another order, layout or place have the same digest."""
    values = torch.randn(4, 6, 3, 3)
    plain = stream_weights({"b": values, "a": torch.ones(3)})
    moved = stream_weights({"a": torch.ones(9)[3:6], "b": values.to(memory_format=torch.channels_last)})
    assert plain == moved
    assert stream_weights({"b": values, "c": torch.ones(3)}) != plain
    values[0, 0, 0, 0] += 1
    assert stream_weights({"b": values, "a": torch.ones(3)}) != plain


def test_conjugated_and_negated_views_are_written_as_they_read() -> None:
    """Their memory holds other numbers than they show."""
    number = torch.tensor([1 + 2j, 3 - 4j])
    with_library = safetensors.torch.load(weights_file({"z": number.conj(), "i": number.conj().imag}))
    assert with_library["z"].tolist() == [1 - 2j, 3 + 4j]
    assert with_library["i"].tolist() == [-2.0, 4.0]


def test_digest_alone_writes_nothing_and_needs_no_copy() -> None:
    """The live memory is hashed where it lies."""
    tensors = {"large": torch.zeros(2**22)}
    stream_weights({"small": torch.zeros(2)})
    tracemalloc.start()
    stream_weights(tensors)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    ("tensor", "part"),
    [
        (torch.zeros(2, dtype=torch.complex128), "complex128"),
        (torch.zeros(2, 2).to_sparse(), "ordinary dense"),
        (torch.zeros(2, device="meta"), "meta"),
        (torch.nn.parameter.UninitializedParameter(), "no shape yet"),
    ],
)
def test_a_tensor_without_a_file_form_is_named(tensor: torch.Tensor, part: str) -> None:
    """In one sentence."""
    with pytest.raises(WeightsUnreadable, match=part):
        stream_weights({"odd": tensor})


def test_a_change_while_streaming_is_an_error() -> None:
    """Its digest would be of no state the model ever had."""
    tensor = torch.zeros(2**20)

    def write(_: Any) -> None:
        tensor.add_(1)

    with pytest.raises(WeightsChanged, match="changed while"):
        stream_weights({"w": tensor}, write)


def test_streaming_can_be_stopped() -> None:
    """A host that shuts down does not wait for a slow pace."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(WeightsUnreadable, match="stopped"):
        stream_weights({"w": torch.zeros(2**20)}, bytes_per_second=1, stop=stop)


def test_the_store_names_files_by_their_digest_and_verifies_them(tmp_path: Path) -> None:
    """And says False for a file with one byte altered."""
    store = ModelStore(tmp_path / "models")
    weights = store.put_weights(tensors_of_module(seeded(Oddities)))
    path = store.path_of(weights.digest, "weights")
    assert path.name == f"{weights.digest}.safetensors" and path.stat().st_size == weights.size_bytes
    assert store.has(weights.digest, "weights") and store.verify(weights.digest, "weights")
    digest, size_bytes = store.put_graph(b"{}")
    assert store.path_of(digest, "graph").read_bytes() == b"{}" and size_bytes == 2
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not store.verify(weights.digest, "weights")
    assert not store.verify("0" * 64, "graph")


def test_what_stands_is_never_written_again(tmp_path: Path) -> None:
    """A second attach costs a pass over the memory, not over the disk."""
    store, tensors = ModelStore(tmp_path), tensors_of_module(seeded(ResNet))
    first = store.put_weights(tensors)
    before = store.path_of(first.digest, "weights").stat()
    assert store.put_weights(tensors) == first
    after = store.path_of(first.digest, "weights").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_of_another_size_under_that_name_is_an_error(tmp_path: Path) -> None:
    """It is neither believed nor overwritten."""
    store = ModelStore(tmp_path)
    digest, _ = store.put_graph(b"{}")
    store.path_of(digest, "graph").write_bytes(b"")
    with pytest.raises(StoreDamaged, match="remove that file"):
        store.put_graph(b"{}")


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_name_that_is_no_digest_reaches_no_path(digest: str, tmp_path: Path) -> None:
    """Digests may come from a hostile manifest."""
    with pytest.raises(ValueError, match="64 lower-case hex digits"):
        ModelStore(tmp_path).path_of(digest, "weights")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_leaves_nothing_behind(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is one sentence that names the store."""

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="model store"):
        ModelStore(tmp_path / "models").put_weights({"w": torch.zeros(4)})
    assert not list((tmp_path / "models").iterdir())


def test_a_place_that_is_no_directory_is_one_sentence(tmp_path: Path) -> None:
    """Whatever stands there stays."""
    (tmp_path / "models").write_text("here first")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        ModelStore(tmp_path / "models").put_graph(b"{}")
    assert (tmp_path / "models").read_text() == "here first"


def test_two_processes_store_the_same_model_at_once(tmp_path: Path) -> None:
    """One file, whole, and no temp file."""
    code = (
        "import sys, torch; from recorder.models import ModelStore;"
        "print(ModelStore(sys.argv[1]).put_weights({'w': torch.arange(2**21)}).digest)"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(2)]
    digests = {child.communicate()[0].decode().strip() for child in children}
    [digest] = digests
    assert [path.name for path in tmp_path.iterdir()] == [f"{digest}.safetensors"]
    assert ModelStore(tmp_path).verify(digest, "weights")


def test_a_temp_file_of_a_dead_process_is_removed_in_time(tmp_path: Path) -> None:
    """But not one that may still be written."""
    old, new = tmp_path / ".tmp-old", tmp_path / ".tmp-new"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    ModelStore(tmp_path).put_graph(b"{}")
    assert not old.exists() and new.exists()


def test_a_graph_made_at_deployment_is_found_by_its_weights(tmp_path: Path) -> None:
    """A reference is a claim: what is not one is as good as none."""
    store, weights, signature = ModelStore(tmp_path), "a" * 64, "b" * 64
    assert store.remembered_graph(weights, signature) is None
    digest, size_bytes = store.put_graph(b"{}")
    graph = Graph(signature=signature, digest=digest, size_bytes=size_bytes)
    store.remember_graph(weights, graph)
    assert store.remembered_graph(weights, signature) == graph
    [reference] = tmp_path.glob("*.graph-ref.json")
    for content in (b"", b"[]", b'{"digest": "../x", "size_bytes": 1}', b"[" * 9999):
        reference.write_bytes(content)
        assert store.remembered_graph(weights, signature) is None
