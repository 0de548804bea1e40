"""The incident with a candidate fix: which frames it fixes, and which it breaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from recorder.bundle.schema import validate
from recorder.models import ModelStore, tensors_of_module
from replay.cli import cli
from replay.result import result_to_json
from replay.verdict import ReplayResult
from replay.whatif import parse_changes
from tests.pipeline import service
from tests.pipeline.conftest import SERVICE

Run = Callable[..., ReplayResult]


def outcomes(result: ReplayResult) -> list[str]:
    assert result.what_if is not None
    return [frame.outcome for frame in result.what_if.frames]


def test_a_change_of_the_image_says_what_it_fixes_and_breaks_by_the_recorded_truth(arrays: Path, run: Run) -> None:
    # Recorded: red and green are right, blue was called blue although the line says red.
    result = run(arrays, "predict", "image.swap_channels=1")
    assert outcomes(result) == ["newly wrong", "still right", "fixed"]
    assert result.exit_code == 1
    assert "1 fixed, 1 newly wrong, 1 still right (judged by metadata ground_truth)" in result.conclusion
    validate(json.loads(json.dumps(result_to_json(result))), "replay")


def test_a_change_that_changes_nothing_leaves_what_was_wrong(arrays: Path, run: Run) -> None:
    result = run(arrays, "predict", "image.brightness=1.05")
    assert outcomes(result) == ["still right", "still right", "still wrong"]


def test_other_weights_are_tried_on_the_recorded_inputs(arrays: Path, run: Run, tmp_path: Path) -> None:
    weights = ModelStore(tmp_path).put_weights(tensors_of_module(service.worse()))
    path = tmp_path / f"{weights.digest}.safetensors"
    result = run(arrays, None, weights=str(path), model=(f"{SERVICE}:build",), truth="no such key")
    assert outcomes(result) == ["changed", "changed", "changed"]
    assert result.exit_code == 0 and "nothing says which answers are right" in result.conclusion
    own = run(arrays, None, weights="own", model=(f"{SERVICE}:worse",), truth="no such key")
    assert outcomes(own) == ["changed", "changed", "changed"]
    same = run(arrays, None, "torch.num_threads=1", model=(f"{SERVICE}:build",), truth="no such key")
    assert outcomes(same) == ["unchanged", "unchanged", "unchanged"]


def test_weights_that_cannot_be_had_are_a_usage_error(arrays: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (["--weights", str(tmp_path / "none.safetensors")], "cannot be read"),
        (["--weights", "own"], "add --model pkg.mod:factory"),
        (["--set", "image.brightness=2"], "add --pipeline pkg.mod:predict"),
        (["--set", "image.sparkle=2", "--pipeline", f"{SERVICE}:predict"], "no such edit"),
        (["--set", "brightness"], "NAME=VALUE"),
        (["--set", "torch.num_threads=zero"], "does not take"),
        (["--set", "colour=2"], "has no 'colour'"),
        (["--weights", "x", "--pipeline", f"{SERVICE}:predict"], "loads its own weights"),
    ):
        done = CliRunner().invoke(cli, ["run", str(arrays), *arguments])
        assert done.exit_code == 2 and said in done.stderr, (arguments, done.stderr)


def test_the_table_puts_what_is_wrong_first(arrays: Path) -> None:
    done = CliRunner().invoke(
        cli, ["run", str(arrays), "--pipeline", f"{SERVICE}:predict", "--set", "image.swap_channels=1"]
    )
    assert done.exit_code == 1, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "what if   image.swap_channels=1"
    assert "newly wrong" in lines[1] and "label red → label blue" in lines[1]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("text", ["mkldnn.enabled=off", "torch.num_threads=2"])
def test_settings_are_taken_by_their_names(text: str) -> None:
    from recorder.torch_settings import SETTINGS

    name, _, value = text.partition("=")
    if name not in {setting.name for setting in SETTINGS}:
        name = next(setting.name for setting in SETTINGS if setting.kind is bool)
    changes = parse_changes([f"{name}={value}"], None)
    assert changes.settings == {name: 2 if value == "2" else False}
