"""What `replay run` prints, writes and exits with, for every kind of result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from recorder.bundle import Bundle
from recorder.bundle.schema import load_schema, validate
from replay.options import ReplayOptions
from replay.result import result_to_json
from replay.show.text import cells
from replay.verdict import CallVerdict, Difference, FrameVerdict, Level, ReplayResult, worst
from tests.cli.conftest import Run, assert_one_sentence

DIFFERENCE = Difference(
    stage="model",
    where="call 103 (classifier) output",
    what="10 of 10 elements differ; the top class changed",
    max_abs=0.25,
    rel_l2=0.031,
    recorded={"top1": [3]},
    replayed={"top1": [4]},
    margin_over_delta=0.8,
)


def _result(levels: list[Level], **changes: Any) -> ReplayResult:
    frames = tuple(
        FrameVerdict(
            id=index,
            level=level,
            first_difference=None if level is Level.BIT_EXACT else DIFFERENCE,
            calls=(CallVerdict(call=100 + index, model="classifier", level=level),),
        )
        for index, level in enumerate(levels, start=1)
    )
    facts: dict[str, Any] = {
        "bundle": "ab" * 32,
        "verdict": worst(levels),
        "reproduced": True,
        "failure_reproduced": True,
        "numerics": "faithful",
        "not_restored": (),
        "frames": frames,
        "conclusion": "The model gives the recorded answers; preprocessing was not re-run.",
        "exit_code": 0,
    }
    return ReplayResult(**(facts | changes))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[ReplayResult], list[ReplayOptions]]:
    """Let every replay find a given result; returns the options it was asked with."""

    def stand_in(result: ReplayResult) -> list[ReplayOptions]:
        asked: list[ReplayOptions] = []

        def replay_bundle(opened: Bundle, options: ReplayOptions) -> ReplayResult:
            asked.append(options)
            return result

        monkeypatch.setattr("replay.run.replay_bundle", replay_bundle)
        return asked

    return stand_in


def test_the_verdict_comes_first(replay: Run, bundle: Path, found: Callable[..., Any]):
    """One line says it all; frames that are bit-exact take no lines."""
    found(_result([Level.BIT_EXACT] * 4))
    ended = replay("run", bundle)
    assert ended.code == 0
    assert ended.out.splitlines()[0] == "bit-exact   4 of 4 frames, numerics faithful"
    assert "frame 1" not in ended.out
    assert "preprocessing was not re-run" in ended.out


def test_a_bundle_alone_is_a_replay(replay: Run, bundle: Path, found: Callable[..., Any]):
    """`replay BUNDLE` and options before the bundle mean `replay run`."""
    asked = found(_result([Level.BIT_EXACT]))
    for arguments in ([bundle], ["run", bundle], ["--json", bundle], [bundle, "--json"]):
        assert replay(*arguments).code == 0
    assert len(asked) == 4


def test_frames_that_differ_are_described(replay: Run, bundle: Path, found: Callable[..., Any]):
    """With the place, the size and both decisions; near-ties are called so."""
    found(_result([Level.BIT_EXACT, Level.WITHIN_TOLERANCE, Level.DIVERGED], exit_code=1, reproduced=False))
    ended = replay("run", bundle)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0] == "diverged   1 bit-exact, 1 within-tolerance, 1 diverged of 3 frames"
    text = " ".join(" ".join(lines).split())
    for expected in ("frame 3 diverged call 103 (classifier) output", "max |Δ| 0.25", "near-tie", "{'top1': [4]}"):
        assert expected in text
    assert all(cells(line) <= 80 for line in lines)


def test_frames_that_differ_in_the_same_way_share_a_line(replay: Run, bundle: Path, found: Callable[..., Any]):
    """A missing model is missing for all frames."""
    found(_result([Level.BIT_EXACT, Level.DIVERGED, Level.DIVERGED], exit_code=1))
    assert "  frames 2-3  diverged  call 103" in replay("run", bundle).out


def test_many_differing_frames_are_capped(replay: Run, bundle: Path, found: Callable[..., Any]):
    """The first dozen explain a thousand."""
    frames = tuple(FrameVerdict(id=i, level=Level.DIVERGED, reason=f"for reason {i}") for i in range(1000))
    found(_result([Level.DIVERGED], frames=frames, exit_code=1))
    out = replay("run", bundle).out
    assert "and 988 more frames; --json lists all" in out
    assert len(out.splitlines()) < 80


def test_what_was_not_restored_and_the_remedies_are_listed(replay: Run, bundle: Path, found: Callable[..., Any]):
    """An inconclusive replay says what is missing and what to do."""
    found(
        _result(
            [Level.INCONCLUSIVE],
            exit_code=3,
            not_restored=("CPU: recorded on \x1b[31mX, this is Y",),
            remedies=("run it on an x86 machine with AVX-512 " + "and more " * 30,),
            failure_reproduced=None,
        )
    )
    ended = replay("run", bundle)
    assert ended.code == 3
    assert "CPU: recorded on X, this is Y" in ended.out
    assert "What to do:" in ended.out
    assert all(cells(line) <= 80 for line in ended.out.splitlines())


@pytest.mark.parametrize("level", list(Level))
def test_every_result_is_valid_json_of_the_published_form(
    replay: Run, bundle: Path, found: Callable[..., Any], level: Level
):
    """The schema ships with the package; keys that others rely on are always there."""
    found(_result([Level.BIT_EXACT, level]))
    data = replay("run", bundle, "--json").json()
    validate(data, "replay")
    Draft202012Validator.check_schema(load_schema("replay"))
    Draft202012Validator(load_schema("replay")).validate(data)
    assert data["verdict"] == level.value
    for key in ("reproduced", "failure_reproduced", "numerics", "not_restored", "conclusion"):
        assert key in data
    assert set(data["frames"][0]) >= {"id", "level", "first_difference"}


def test_numbers_that_json_lacks_become_null():
    """An infinite error is no number."""
    difference = Difference(stage="model", where="x", what="y", max_abs=float("inf"), rel_l2=float("nan"))
    frame = FrameVerdict(id=1, level=Level.DIVERGED, first_difference=difference)
    data = result_to_json(_result([Level.DIVERGED], frames=(frame,)))
    assert data["frames"][0]["first_difference"]["max_abs"] is None
    json.dumps(data, allow_nan=False)


def test_options_reach_the_replay(replay: Run, bundle: Path, found: Callable[..., Any]):
    """Every option of the command is one of the replay."""
    asked = found(_result([Level.BIT_EXACT]))
    arguments = ["--numerics", "portable", "--device", "cuda:1", "--frames", "1,3-9", "--repeat", "5"]
    arguments += ["--model", "net=zoo.nets:build", "--model", "zoo:other", "--model-dir", "src", "--models", "store"]
    assert replay("run", bundle, *arguments, "--timeout", "2.5", "--require", "bit-exact").code == 0
    [options] = asked
    assert (options.numerics, options.device, options.repeat) == ("portable", "cuda:1", 5)
    assert options.frames == {1, 3, 4}
    assert options.model == ("net=zoo.nets:build", "zoo:other")
    assert (options.model_directory, options.models, options.bundle_path) == ("src", "store", bundle)
    assert (options.timeout_seconds, options.require, options.progress) == (2.5, "bit-exact", None)


def test_save_writes_the_result_beside_the_bundle(replay: Run, bundle: Path, tmp_path: Path, found: Callable[..., Any]):
    """The same object as --json prints; the bundle is not touched."""
    copy = tmp_path / "incident.zst"
    copy.write_bytes(bundle.read_bytes())
    found(_result([Level.BIT_EXACT]))
    printed = replay("run", copy, "--save", "--json").json()
    assert json.loads((tmp_path / "incident.zst.replay.json").read_text()) == printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["incident.zst", "incident.zst.replay.json"]
    assert copy.read_bytes() == bundle.read_bytes()


def test_a_result_that_cannot_be_written_is_said_in_one_sentence(
    replay: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch, found: Callable[..., Any]
):
    """After the verdict, which is not lost."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("replay.result.save_result", refuse)
    found(_result([Level.BIT_EXACT]))
    ended = replay("run", bundle, "--save")
    assert ended.code == 2
    assert "bit-exact" in ended.out
    assert_one_sentence(ended.err, ["Permission denied"])


def test_a_model_that_is_nowhere_is_not_replayable(replay: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """A real replay: exit code 3, with the remedy."""
    monkeypatch.delenv("REPLAY_MODELS", raising=False)
    ended = replay("run", bundle, "--json")
    assert ended.code == 3
    data = ended.json()
    assert data["verdict"] == "not-replayable"
    assert data["reproduced"] is False
    validate(data, "replay")
    assert "--model" in " ".join([*data["remedies"], data["conclusion"]])


def test_a_model_store_that_is_not_there_is_a_usage_error(replay: Run, bundle: Path, tmp_path: Path):
    """Named by the user, so a mistake of the user's."""
    ended = replay("run", bundle, "--models", tmp_path / "missing")
    assert ended.code == 2
    assert_one_sentence(ended.err, ["missing"])
