"""Layer digests captured in production, and a replay held against them."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.bundle.values import MappingValue, TensorValue
from recorder.layers import capture, watching
from recorder.layers.digest import hash_tensor
from replay.locate.recorded import recorded_layers
from replay.verdict import Level
from tests.locate import models_for_tests as models
from tests.locate.conftest import MODELS


def record(directory: Path, module: nn.Module, *inputs: torch.Tensor) -> Path:
    """Seal a bundle of a model's calls, layers included."""
    with FlightRecorder(directory / "incidents", ring=directory / "host.ring", overhead_budget=1) as recorder:
        recorder.attach(module, layers=True)
        with torch.inference_mode():
            for given in inputs:
                module(given)
        incident = recorder.trigger("a test")
        assert recorder.flush(timeout=120)
        assert recorder.stats().errors == {}
        sealed = incident.wait(timeout=240)
        assert sealed is not None and sealed.path is not None
        return Path(sealed.path)


@pytest.fixture
def every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests without regard to what they take: tests run on busy machines."""
    monkeypatch.setattr(capture, "SHARE", 1e9)
    monkeypatch.setattr(capture, "_MAX_SAVED_NS", 1e18)


@pytest.mark.usefixtures("every_call")
def test_each_layer_with_a_matrix_is_digested_in_every_call(tmp_path: Path) -> None:
    """Its path, the hash of what it gave, a sketch of it."""
    module, given = models.steady(), torch.rand(2, 8)
    path = record(tmp_path, module, given, given)
    with Bundle.open(path) as bundle:
        runs = [recorded_layers(call, bundle.tensor_bytes) for call in bundle.manifest.calls]
    assert [[layer.key[0] for layer in run.records] for run in runs] == [["0", "1.1", "2"]] * 2
    with torch.inference_mode():
        assert runs[0].records[0].outputs[0].hash == hash_tensor(module[0](given))


@pytest.mark.usefixtures("every_call")
def test_a_replay_is_located_against_production(tmp_path: Path, located: Any, replayed: Any) -> None:
    """By name, and in the first difference of a verdict; an honest replay has the recorded layers."""
    path = record(tmp_path, models.steady(), torch.rand(2, 8))
    same = located(path, "recorded", model=(f"{MODELS}:steady",))
    assert same.exit_code == 0, same.conclusion
    [found] = located(path, "recorded", model=(f"{MODELS}:biased",)).located
    assert found.root.key == ("1.1", "", 0)
    verdict = replayed(path, model=(f"{MODELS}:biased",))
    assert verdict.verdict is not Level.BIT_EXACT and verdict.frames[0].first_difference.layer.path == "1.1"
    assert "it begins in 1.1" in verdict.conclusion


def test_digests_keep_to_their_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to spend, the first call is digested and no other."""
    monkeypatch.setattr(capture, "SHARE", 0.0)
    path = record(tmp_path, models.steady(), *[torch.rand(2, 8)] * 5)
    with Bundle.open(path) as bundle:
        assert [call.layers is not None for call in bundle.manifest.calls] == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("plain_ns", "taken_ns", "debit_ns"),
    [(0.0, 900, 100), (500.0, 700, 200), (500.0, 550, 100), (500.0, 90_000, 400)],
    ids=["nothing to compare with", "evicted caches", "the clock itself", "slow for a reason of its own"],
)
def test_digests_are_debited_with_what_they_slow_down(plain_ns: float, taken_ns: int, debit_ns: int) -> None:
    """The longer of their own clock and the gap to calls without, up to four times their own clock."""
    watching = capture.LayerCapture(models.steady(), lambda: None)
    try:
        watching._local.spent_ns, watching._plain_ns = 100, plain_ns
        assert watching._debit_ns(taken_ns) == debit_ns
    finally:
        watching.remove()


@pytest.mark.usefixtures("every_call")
def test_a_watched_model_computes_and_copies_as_before(tmp_path: Path) -> None:
    """The fused path of torch's own layers too; nothing of it is left when the recorder is closed."""
    bare, watched, given = models.encoder(), models.encoder(), torch.rand(2, 5, 16)
    recorder = FlightRecorder(tmp_path / "incidents", ring=tmp_path / "host.ring")
    with recorder, torch.inference_mode():
        recorder.attach(watched, layers=True)
        assert torch.equal(bare(given), watched(given))
        for twin in (copy.deepcopy(watched), pickle.loads(pickle.dumps(watched))):
            assert torch.equal(twin(given), bare(given)) and not twin._forward_pre_hooks
    assert not watched._forward_hooks and not watched._forward_pre_hooks
    assert not watching._watched and watching._handle is None


@pytest.mark.usefixtures("every_call")
def test_digests_that_fail_leave_the_host_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, and the call is recorded without them."""

    def fail(_: torch.Tensor) -> int:
        raise RuntimeError("no hash today")

    monkeypatch.setattr(capture, "hash_number", fail)
    module, given = models.steady(), torch.rand(2, 8)
    with FlightRecorder(tmp_path / "incidents", ring=tmp_path / "host.ring") as recorder:
        recorder.attach(module, layers=True)
        assert module(given).shape == (2, 4)
        assert recorder.stats().errors == {"layers: RuntimeError": 1}


def _call_with(names: bytes, hashes: int, shape: tuple[int, int], dtype: str = "float32") -> tuple[Any, Any]:
    """A call whose layers claim this, and what reads their bytes."""
    data = {
        "names": (names, "uint8", (len(names),)),
        "hashes": (bytes(8 * hashes), "uint64", (hashes,)),
        "sketches": (np.zeros(shape, dtype).tobytes(), dtype, shape),
    }
    items = tuple(
        (
            key,
            TensorValue(
                container="numpy", dtype=kind, shape=size, strides=tuple([1] * len(size)), alignment=0, device="cpu",
                member=key, offset=0, size_bytes=len(content), encoding="raw", sha256="",
            ),
        )
        for key, (content, kind, size) in data.items()
    )  # fmt: skip
    call = replace(_EMPTY, layers=MappingValue(items=items))
    return call, lambda tensor: data[tensor.member][0]


def _empty_call() -> Any:
    from tests.golden.regenerate import _call

    return _call(1, (1,), (), None)


_EMPTY = _empty_call()


@pytest.mark.parametrize(
    ("names", "hashes", "shape", "dtype"),
    [
        (b"[]", 1, (1, 61), "float32"),
        (b'["a"]', 1, (1, 60), "float32"),
        (b'["a"]', 2, (1, 61), "float32"),
        (b'["a"]', 1, (1, 61), "float64"),
        (b'{"a": 1}', 1, (1, 61), "float32"),
        (b"[1]", 1, (1, 61), "float32"),
        (b"[" * 5000, 1, (1, 61), "float32"),
        (b"\xff", 1, (1, 61), "float32"),
        (json.dumps(["a" * 1001]).encode(), 1, (1, 61), "float32"),
    ],
)
def test_layers_that_are_none_are_passed_over(names: bytes, hashes: int, shape: tuple[int, int], dtype: str) -> None:
    """A bundle is a stranger's: what cannot be understood is as if it were not there."""
    call, read = _call_with(names, hashes, shape, dtype)
    assert recorded_layers(call, read) is None


@given(st.binary(max_size=60))
def test_no_bytes_of_names_break_the_reader(names: bytes) -> None:
    """Whatever they say, the answer is a run or none."""
    call, read = _call_with(names, 1, (1, 61))
    found = recorded_layers(call, read)
    assert found is None or len(found.records) == 1
