"""What a worker restores, what it refuses, and how its end is told."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from replay.verdict import Level
from tests.replay.models_for_tests import echo, misbehaving, raising, strides


def test_arguments_lie_as_they_lay_aligned_and_with_their_strides(recording: Any, replayed: Any) -> None:
    model = recording.attach(strides())
    for alignment in (0, 4, 24, 60):
        room = np.zeros(4096, np.uint8)
        start = (alignment - room.ctypes.data) % 64
        tensor = torch.from_numpy(room[start : start + 400].view(np.float32)).view(10, 10)
        assert model(tensor)["alignment"] == alignment
    base = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    for tensor in (
        base.to(memory_format=torch.channels_last),
        base.transpose(1, 3),
        torch.rand(9, 3, 8, 8)[::4],
        base[..., ::2],
        base[:, :1].expand(2, 3, 8, 8),
        torch.arange(10.0).unfold(0, 4, 1),
        base.sum(),
        base[:0],
    ):
        model(tensor)
    result = replayed(recording.write(), "strides")
    assert result.verdict is Level.BIT_EXACT, result.frames


def test_arguments_of_every_kind_come_back_as_they_were(recording: Any, replayed: Any) -> None:
    base = torch.rand(2, 3, generator=torch.Generator().manual_seed(3))
    pair = collections.namedtuple("pair", ["left", "right"])
    model = recording.attach(echo())
    for value in (
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        base.to(torch.bfloat16),
        torch.complex(base, base),
        base > 0.5,
        torch.tensor([1, 2**40]),
        torch.tensor([1.0, 2.0]).to(torch.float8_e4m3fn),
        pair(base, [base, {"a": (1, None)}]),
    ):
        model(value)
    result = replayed(recording.write(), "echo")
    assert result.verdict is Level.BIT_EXACT, result.frames


def test_an_argument_that_needs_the_hosts_code_is_named(recording: Any, replayed: Any) -> None:
    recording.attach(raising())(torch.ones(1))
    recording.calls[0]["args"] = ({"tuple": [{"opaque": "service.Secret\x1b]0;x\x07"}]}, b"")
    result = replayed(recording.write(), "raising")
    assert result.exit_code == 3
    assert result.frames[0].reason.startswith("args[0] was an object of type service.Secret")
    assert "\x1b" not in result.frames[0].reason


@pytest.mark.usefixtures("no_nursery")
def test_what_a_worker_may_not_do_is_refused_with_a_sentence(recording: Any, replayed: Any, tmp_path: Path) -> None:
    written = tmp_path / "replay-worker-was-here"
    model = recording.attach(misbehaving())
    wanted = {"connect": "reach the network", "write": "write a file", "allocate": "more memory", "native write": ""}
    for index, what in enumerate(wanted):
        model("nothing")
        recording.calls[index]["args"] = (
            {"tuple": [{"scalar": f"{what} {written}" if "write" in what else what}]},
            b"",
        )
    result = replayed(recording.write(), "misbehaving", memory_bytes=2**30)
    for frame, said in zip(result.frames, wanted.values(), strict=True):
        assert said in frame.reason
    assert [frame.level for frame in result.frames[:3]] == [Level.NOT_REPLAYABLE] * 3
    assert result.frames[3].level is not Level.BIT_EXACT, "native code writes no file either"
    assert not written.exists() or not written.read_bytes()


def test_a_call_that_never_returns_is_ended(recording: Any, replayed: Any) -> None:
    model = recording.attach(misbehaving())
    for _ in range(3):
        model("nothing")
    recording.calls[1]["args"] = ({"tuple": [{"scalar": "sleep"}]}, b"")
    result = replayed(recording.write(), "misbehaving", timeout_seconds=5.0)
    assert [frame.level for frame in result.frames] == [Level.BIT_EXACT, Level.NOT_REPLAYABLE, Level.BIT_EXACT]
    assert "ended after 5 seconds" in result.frames[1].reason


@pytest.mark.usefixtures("no_nursery")
def test_a_worker_that_dies_costs_one_call_and_is_told_in_a_sentence(recording: Any, replayed: Any) -> None:
    model = recording.attach(misbehaving())
    for _ in range(3):
        model("nothing")
    recording.calls[1]["args"] = ({"tuple": [{"scalar": "crash"}]}, b"")
    recording.in_flight(0, "crash")
    result = replayed(recording.write(), "misbehaving", repeat=2)
    levels = [frame.level for frame in result.frames]
    assert levels == [Level.BIT_EXACT, Level.NOT_REPLAYABLE, Level.BIT_EXACT, Level.NOT_REPLAYABLE]
    assert "killed by SIGSEGV while running the model" in result.frames[1].reason
    assert "the replay worker died on it as well" in result.frames[3].reason


def test_a_factory_that_fails_is_named_with_its_reason(recording: Any, replayed: Any) -> None:
    recording.attach(raising())(torch.ones(1))
    path = recording.write()
    assert "RuntimeError: no such checkpoint" in replayed(path, "broken").frames[0].reason
    assert "ModuleNotFoundError" in replayed(path, model=("no.such.module:factory",)).frames[0].reason


def test_what_a_model_prints_goes_to_standard_error_without_escapes(
    recording: Any, replayed: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    recording.attach(misbehaving())("print")
    capfd.readouterr()
    assert replayed(recording.write(), "misbehaving").verdict is Level.BIT_EXACT
    out, err = capfd.readouterr()
    assert out == "" and "printed by the model" in err and "\x1b" not in err


@pytest.mark.usefixtures("no_nursery")
def test_no_worker_is_left_behind(recording: Any, replayed: Any) -> None:
    before = _children()
    recording.attach(misbehaving())("nothing")
    replayed(recording.write(), "misbehaving")
    assert _children() <= before  # a sealer of an earlier test may end meanwhile


def _children() -> set[str]:
    tasks = Path("/proc/self/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()} - {str(os.getpid())}
