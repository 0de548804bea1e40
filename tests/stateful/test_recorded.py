"""Each frame of a window of a stateful model replays by itself, bit for bit, from what was recorded live."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from recorder import FlightRecorder
from recorder.bundle import Bundle, BundleWriter
from recorder.bundle.manifest import Manifest
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import MappingValue, TensorValue
from replay.cli import cli
from tests.stateful import networks

STATE = {"buffer": ["hidden"], "attribute": ["mean"], "replaced": ["hid*"], "norm": ["norm.running_*", "norm.num_*"]}


def record(kind: str, sink: Path, state: Any, calls: int = 6) -> Path:
    generator = torch.Generator().manual_seed(1)
    with FlightRecorder(sink=str(sink), pre_frames=3, max_bytes=2**25, overhead_budget=1) as recorder:
        model = recorder.attach(getattr(networks, kind)(), name="stateful", state=state)
        rows = 3 if kind == "norm" else 1
        with torch.no_grad():
            for _ in range(calls):
                model(torch.rand(rows, 4, generator=generator))
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    return Path(path)


def replay(bundle: Path, *options: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(cli, ["run", str(bundle), "--json", *options])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("kind", list(STATE))
def test_every_frame_replays_by_factory_and_by_graph(kind: str, tmp_path: Path) -> None:
    path = record(kind, tmp_path, STATE[kind])
    with Bundle.open(path) as bundle:
        [model] = bundle.manifest.models
        assert model.weights is not None and model.state == tuple(STATE[kind])
        assert all(call.state is not None and call.state.items for call in bundle.manifest.calls)
        last = bundle.manifest.frames[-1].id
    for options in ((), ("--model", f"tests.stateful.networks:{kind}"), ("--frames", str(last))):
        code, result = replay(path, *options)
        assert (code, result["verdict"]) == (0, "bit-exact"), (options, result["conclusion"])


def test_a_state_that_is_not_named_is_found(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="its state"):
        path = record("buffer", tmp_path, None, calls=12)
    with Bundle.open(path) as bundle:
        assert bundle.manifest.models[-1].state == ("hidden",)
    code, result = replay(path)
    assert (code, result["verdict"]) == (0, "bit-exact"), result["conclusion"]


def test_a_state_that_is_not_the_recorded_one_diverges(tmp_path: Path) -> None:
    """What is set before the call decides its answer: the verdict rests on it."""
    path = record("buffer", tmp_path, STATE["buffer"])

    def plant(manifest: Manifest, writer: BundleWriter) -> Manifest:
        call = manifest.calls[-1]
        assert call.state is not None
        [(name, tensor)] = call.state.items
        assert isinstance(tensor, TensorValue)
        wrong = writer.tensor_like(np.full(tensor.shape, 7, np.float32).tobytes(), tensor)
        planted = replace(call, state=MappingValue(items=((name, wrong),)))
        return replace(manifest, calls=(*manifest.calls[:-1], planted))

    out = path.with_name("planted.zst")
    with Bundle.open(path) as bundle:
        rewrite(bundle, out, operation="minimize", transform=plant)
    code, result = replay(out, "--model", "tests.stateful.networks:buffer")
    assert (code, result["verdict"]) == (1, "diverged"), result["conclusion"]
    assert [frame["level"] for frame in result["frames"]][:-1] == ["bit-exact"] * (len(result["frames"]) - 1)
