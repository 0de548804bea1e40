"""The smallest part of an incident that still fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from recorder.bundle import Bundle
from recorder.bundle.manifest import Trigger
from replay.cli import cli
from replay.load import UserConfig
from replay.minimize import Minimized, NothingFails, minimize_bundle
from tests.replay.bundles_of_calls import T0_NS, Recording
from tests.replay.conftest import MODELS
from tests.replay.models_for_tests import classifier, echo, poisoned, raising


def trigger(kind: str, frame: int, **parameters: Any) -> Trigger:
    return Trigger(kind=kind, reason="it fired", frame=frame, time_ns=T0_NS, parameters=parameters)


def minimized(path: Path, factory: str, **options: Any) -> tuple[Minimized, Bundle]:
    out = path.with_name("smallest.zst")
    with Bundle.open(path) as bundle:
        done = minimize_bundle(
            bundle, out, model=(f"{MODELS}:{factory}",), bundle_path=path, config=UserConfig(), **options
        )
    return done, Bundle.open(out)


def test_only_the_frames_that_poisoned_the_model_and_the_one_that_fails_are_left(recording: Recording) -> None:
    model = recording.attach(poisoned())
    for value in (1, 2, 10, 3, -10, 4, 5, 6):  # frames 1 to 8; the third and fifth poison it
        model(torch.full((4,), float(value)))
    recording.triggers.append(trigger("non_finite", 8, part="output"))
    done, smaller = minimized(recording.write(), "poisoned")
    assert done.frames == (3, 5, 8) and done.frames_before == 8
    assert done.fails_by == "the trigger non_finite fires again"
    with smaller:
        assert [frame.id for frame in smaller.manifest.frames] == [3, 5, 8]
        assert smaller.manifest.parent is not None and smaller.manifest.parent.operation == "minimize"
        assert smaller.verify() == []


def test_the_smaller_bundle_fails_as_the_whole_did(recording: Recording, replayed: Any) -> None:
    model = recording.attach(poisoned())
    for value in (10, 1, -10, 2):
        model(torch.full((4,), float(value)))
    recording.triggers.append(trigger("non_finite", 4, part="output"))
    path = recording.write()
    minimized(path, "poisoned")[1].close()
    result = replayed(path.with_name("smallest.zst"), "poisoned")
    assert result.failure_reproduced is True and result.exit_code == 0


def test_a_batch_loses_the_items_that_do_not_matter(recording: Recording, replayed: Any) -> None:
    model = recording.attach(raising())
    batch = torch.ones(6, 4)
    batch[4, 2] = -1
    model(batch)
    recording.triggers.append(trigger("exception", 1, type="builtins.ValueError"))
    path = recording.write()
    done, smaller = minimized(path, "raising")
    assert done.items == (4,) and done.items_before == 6
    with smaller:
        [call] = smaller.manifest.calls
        assert smaller.array(call.args.items[0]).tolist() == [[1, 1, -1, 1]]
    again = replayed(path.with_name("smallest.zst"), "raising")
    assert again.failure_reproduced is True


def test_without_a_trigger_that_an_answer_decides_the_recorded_answer_has_to_come_back(recording: Recording) -> None:
    model = recording.attach(classifier())
    for number in range(4):
        model(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(number)))
    recording.triggers.append(trigger("latency", 2))
    done, smaller = minimized(recording.write(), "classifier")
    smaller.close()
    assert done.frames == (2,) and done.items is None
    assert done.fails_by == "the recorded answer comes back"


def test_an_incident_that_does_not_fail_here_is_left_alone(recording: Recording) -> None:
    model = recording.attach(echo())
    model(torch.ones(3))
    model(torch.ones(3))
    recording.triggers.append(trigger("non_finite", 2, part="output"))
    path = recording.write()
    with pytest.raises(NothingFails, match="does not fail in a replay here"):
        minimized(path, "echo")
    assert not path.with_name("smallest.zst").exists()


def test_the_command_says_what_is_left(recording: Recording) -> None:
    model = recording.attach(poisoned())
    for value in (10, 1, -10, 2):
        model(torch.full((4,), float(value)))
    recording.triggers.append(trigger("non_finite", 4, part="output"))
    path, out = recording.write(), recording.directory / "smallest.zst"
    arguments = ["minimize", str(path), "-o", str(out), "--model", f"{MODELS}:poisoned"]
    done = CliRunner().invoke(cli, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["frames"] == [1, 3, 4]
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code == 2 and "exists" in again.stderr
    nowhere = CliRunner().invoke(cli, ["minimize", str(path), "-o", f"{out}.2", "--frame", "77"])
    assert nowhere.exit_code == 2 and "no frame 77" in nowhere.stderr
    codeless = CliRunner().invoke(cli, ["minimize", str(path), "-o", f"{out}.2"])
    assert codeless.exit_code == 3 and "--model" in codeless.stderr, codeless.output
