"""`replay locate`: what is printed, drawn and refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from replay.result import read_result, result_path
from replay.show.text import cells
from tests.bisect.wheels import wheels  # noqa: F401 - a fixture
from tests.cli.conftest import Run, assert_one_sentence, replay  # noqa: F401 - a fixture
from tests.locate import models_for_tests as models
from tests.locate.conftest import MODELS


def bundle_of(recording: Any, module: Any) -> Path:
    recording.attach(module)(torch.rand(2, 8, generator=torch.Generator().manual_seed(1)))
    return recording.write()


def test_a_tree_of_eighty_columns_marks_the_root(recording: Any, replay: Run) -> None:  # noqa: F811
    """Text for people, one object for programs, the same finding in both."""
    path = bundle_of(recording, models.plain_operations())
    sides = ("--model", f"{MODELS}:plain_operations", "--against-model", f"{MODELS}:scaled_operations")
    ended = replay("locate", path, *sides)
    assert ended.code == 1, ended.err
    assert all(cells(line) <= 80 for line in ended.out.splitlines())
    assert [line.split()[1] for line in ended.out.splitlines() if line.startswith(">")] == ["the", "mul.Tensor"]
    data = replay("locate", path, *sides, "--save", "--json").json()
    [saved] = read_result(result_path(str(path)))["findings"]["locate"]
    assert saved["calls"][0]["first_difference"] == data["calls"][0]["first_difference"]
    assert data["exit_code"] == 1 and data["other"].endswith("scaled_operations")
    found = data["calls"][0]["first_difference"]
    assert (found["path"], found["operator"], found["before"]) == ("", "aten.mul.Tensor", "second")


def test_hostile_names_are_shown_inert(recording: Any, replay: Run, tmp_path: Path) -> None:  # noqa: F811
    """A module may be called anything: no escape reaches the terminal, no markup the plot."""
    path = bundle_of(recording, models.hostile())
    plot = tmp_path / "plot.svg"
    sides = ("--model", f"{MODELS}:hostile", "--against-model", f"{MODELS}:hostile_fault", "--plot", plot)
    ended = replay("locate", path, *sides)
    assert ended.code == 1, ended.err
    assert all(line.isprintable() and cells(line) <= 80 for line in ended.out.splitlines())
    assert "\x1b" not in ended.out and "\u202e" not in ended.out
    text = plot.read_text(encoding="utf-8")
    assert "<script" not in text and "\x1b" not in text
    root = ElementTree.fromstring(text)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg", "rect", "text", "line", "polyline", "circle", "title",
    }  # fmt: skip
    assert replay("locate", path, *sides, "--json").out.isascii()


def test_equal_sides_end_with_zero(recording: Any, replay: Run) -> None:  # noqa: F811
    """And say so."""
    path = bundle_of(recording, models.steady())
    ended = replay("locate", path, "--against", "itself", "--model", f"{MODELS}:steady")
    assert ended.code == 0 and "gives the same, bit for bit" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the other side"),
        (["--against", "elsewhere"], "--against takes faithful"),
        (["--against", "torch.num_threads=many"], "is no value of torch.num_threads"),
        (["--against", "torch.no_such=1"], "there is no setting"),
        (["--against", "MKL_CBWR=/tmp/x"], "is no value of MKL_CBWR"),
        (["--against", "itself", "--against", "here"], "goes with no other side"),
        (["--against-weights", "/nowhere/x.safetensors"], "cannot be read"),
        (["--against", "here", "--frames", "99"], "there is no frame"),
        (["--against-model", "nonsense"], "names no function"),
    ],
)
def test_wrong_arguments_are_one_sentence(recording: Any, replay: Run, arguments: list[str], words: str) -> None:  # noqa: F811
    """Exit code 2, before any model is loaded."""
    ended = replay("locate", bundle_of(recording, models.steady()), *arguments)
    assert ended.code == 2 and words in ended.err
    assert_one_sentence(ended.err)


def test_two_versions_of_a_library_are_held_against_each_other(
    recording: Any,
    replay: Run,  # noqa: F811
    wheels: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Installed for the other side alone, gone at the end; a version that is nowhere, wrong forms: one sentence."""
    rooms = tmp_path / "rooms"
    rooms.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(rooms))
    recording.attach(nn.Identity(), store=False)(torch.zeros(4))
    path = recording.write()
    model = ("--model", "tests.bisect.models:of_library")
    ended = replay("locate", path, "--with", "flight-recorder-test-library==2.0", *model, "--json")
    assert ended.code == 1, ended.err
    found = ended.json()
    assert found["other"].startswith("flight-recorder-test-library==2.0") and found["reference"].startswith("faithful")
    assert found["calls"][0]["first_difference"]["path"] == ""
    assert not list(rooms.glob("replay-with-*"))
    nowhere = replay("locate", path, "--with", "flight-recorder-test-library==9.9", *model)
    assert nowhere.code == 2
    assert_one_sentence(nowhere.err, ("could not be installed here from wheels",))
    for wrong in (("--with", "torch"), ("--with", "a==1", "--against", "itself")):
        ended = replay("locate", path, *wrong, *model)
        assert ended.code == 2
        assert_one_sentence(ended.err)
