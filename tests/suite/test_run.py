"""A suite run against candidates: what passes, fails, is flaky, cannot be run; and what changed since the last run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from click.testing import CliRunner, Result

from recorder.bundle import Bundle, BundleWriter, Manifest
from recorder.bundle.manifest import Trigger
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import MappingValue, RemovedValue, ScalarValue, SequenceValue
from replay.cli import cli
from replay.compare.comparison import Answer
from replay.suite import running
from replay.suite.document import Case, Suite, read_suite, write_suite
from replay.suite.expectation import Expectation, parse_expectation
from replay.suite.judging import Finding, judge_expectation
from replay.suite.seen import Seen, View
from tests.replay.bundles_of_calls import T0_NS, Recording
from tests.suite import models
from tests.suite.conftest import LOGITS, MODELS, add

CANDIDATES = [f"--model={name}={MODELS}:{name}" for name in ("scores", "boxes", "fickle")]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["suite", *map(str, arguments)])


@pytest.fixture(scope="module")
def report(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict], Path]:
    """One run of everything, by case, and its JUnit file."""
    junit = tmp_path_factory.mktemp("junit") / "out.xml"
    done = run("run", suite, *CANDIDATES, "--json", "--junit", junit)
    assert done.exit_code == 1, done.output
    data = json.loads(done.stdout)
    assert data["counts"] == {"pass": 2, "fail": 3, "flaky": 1, "cannot-run": 4} and data["since_last_run"] is None
    return {case["case"]: case for case in data["cases"]}, junit


def test_every_case_is_told_apart(report: tuple[dict[str, dict], Path]) -> None:
    cases, _ = report
    assert {name: case["status"] for name, case in cases.items()} == {
        "boxes": "fail",
        "fickle": "flaky",
        "gone": "cannot-run",
        "needs-pipeline": "cannot-run",
        "other": "cannot-run",
        "right": "pass",
        "same": "pass",
        "still-unsure": "fail",
        "torn": "cannot-run",
        "wrong": "fail",
    }


def test_a_failure_says_what_was_expected_and_what_came(report: tuple[dict[str, dict], Path]) -> None:
    cases, _ = report
    [wrong] = cases["wrong"]["findings"]
    assert (wrong["expected"], wrong["got"]) == ("ok (class 0)", "scratch (class 2)")
    [boxes] = cases["boxes"]["findings"]
    assert boxes["got"] == "1 found, 1 missed, 1 not expected"
    assert "[20, 20, 40, 40] label 1; extra [50, 50, 60, 60]" in boxes["evidence"]
    assert "it fires again" in cases["still-unsure"]["findings"][0]["got"]


def test_what_cannot_be_run_says_why_and_what_to_do(report: tuple[dict[str, dict], Path]) -> None:
    cases, _ = report
    for name, said in (
        ("gone", "is not there; add the case again"),
        ("other", "is another bundle than the suite names"),
        ("needs-pipeline", "give --pipeline pkg.mod:predict"),
        ("fickle", "passes of the candidate disagree: class 2"),
    ):
        assert said in cases[name]["reason"], name


def test_junit_has_failures_and_errors(report: tuple[dict[str, dict], Path]) -> None:
    [suite] = ElementTree.parse(report[1]).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("10", "4", "4")
    wrong = next(case for case in suite if case.get("name") == "wrong")
    assert "expected ok (class 0), got scratch (class 2)" in str(wrong[0].text)


def test_junit_is_written_over_a_report_and_nothing_else(suite: Path, tmp_path: Path) -> None:
    bundle, earlier = tmp_path / "kept.zst", tmp_path / "out.xml"
    shutil.copy(suite / "right.zst", bundle)
    earlier.write_text("<?xml version='1.0'?>\n<testsuites />")
    words = ("run", suite, "--only", "none-of-this-name", "--junit")
    refused = run(*words, bundle)
    assert refused.exit_code == 2 and "is no JUnit XML and is not overwritten" in refused.stderr
    assert bundle.read_bytes() == (suite / "right.zst").read_bytes()
    assert run(*words, earlier).exit_code == 3 and 'tests="0"' in earlier.read_text()


def test_the_next_run_says_what_changed(suite: Path, tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    for name in ("suite.toml", "right.zst"):
        shutil.copy(suite / name, folder)
    text = (folder / "suite.toml").read_text().split("\n\n")
    (folder / "suite.toml").write_text(
        "\n\n".join(part for part in text if not part.startswith("[case") or "[case.right" in part)
    )
    assert [case.name for case in read_suite(folder).cases] == ["right"]
    first = run("run", folder, f"--model={MODELS}:turned")
    assert first.exit_code == 1 and "expected scratch (class 2), got ok (class 0)" in first.stdout, first.output
    second = run("run", folder, f"--model={MODELS}:scores")
    assert second.exit_code == 0 and "newly passing: right" in second.stdout
    third = run("run", folder, f"--model={MODELS}:broken")
    assert third.exit_code == 3 and "newly failing: right" in third.stdout and "RuntimeError: no such" in third.stdout
    assert "cannot-run" in run("ls", folder).stdout


def test_a_run_without_failures_in_which_something_is_flaky_ends_with_5(suite: Path, tmp_path: Path) -> None:
    done = run("run", suite, *CANDIDATES, "--only", "fickle")
    assert done.exit_code == 5 and "1 flaky of 1 cases" in done.stdout
    assert "since the last run" not in done.stdout  # a part of a suite is not held against the whole


def test_a_case_that_was_redacted_beyond_replay_is_named_and_the_others_go_on(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    add(recorded, folder, "class=2", name="whole")
    add(recorded, folder, "class=2", name="redacted")

    def removed(manifest: Manifest, writer: BundleWriter) -> Manifest:
        gone = RemovedValue(kind="tensor", container="torch", dtype="float32", shape=(1, 3), size_bytes=12)
        calls = tuple(replace(call, args=replace(call.args, items=(gone,))) for call in manifest.calls)
        return replace(manifest, calls=calls)

    with Bundle.open(recorded) as bundle:
        identity = rewrite(bundle, folder / "redacted.zst", operation="redact", transform=removed)
    suite = read_suite(folder)
    write_suite(Suite(folder, tuple(replace(c, bundle=identity) if c.name == "redacted" else c for c in suite.cases)))
    done = run("run", folder, f"--model={MODELS}:scores")
    assert done.exit_code == 3 and "1 pass, 1 cannot-run of 2 cases" in done.stdout
    assert "removed for privacy" in done.stdout


def test_candidates_that_contradict_themselves_are_a_usage_error(suite: Path) -> None:
    for arguments, said in (
        (["--pipeline=a:b", "--weights=x"], "builds its own model"),
        (["--weights=/none"], "cannot be read"),
        (["--weights=own"], "add --model"),
    ):
        done = run("run", suite, *arguments)
        assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert run("run", suite / "none").exit_code == 2


def test_a_case_is_added_minimised_and_the_classes_it_names_are_checked(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    done = run(
        "add",
        recorded,
        "--to",
        folder,
        "--expect",
        "class=2",
        "--name",
        "small",
        "--model",
        f"{MODELS}:scores",
        "--json",
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 1 and json.loads(done.stdout)["frames_before"] == 3
    (tmp_path / "names.json").write_text('{"id2label": {"0": "ok", "1": "dent", "2": "scratch"}}')
    for arguments, said in (
        (["--expect=class=3"], "has 3 classes, 0 to 2"),
        (["--expect=class=rust"], "names with --labels FILE"),
        (["--expect=class=rust", f"--labels={tmp_path / 'names.json'}"], "is not among the 3 names"),
        (["--expect=class"], "is no expectation"),
        (["--expect=confidence>2"], "between 0 and 1"),
        (["--expect=stable:image.sparkle=0..1"], "no such edit"),
        (["--expect=boxes~/none.json"], "holds no boxes"),
        (["--expect=class=2", "--name=small"], "--replace it"),
        (["--expect=class=2", "--name=../out"], "is no name of a case"),
        (["--expect=class=2", "--frame=9"], "has no frame 9"),
    ):
        failed = run("add", recorded, "--to", folder, "--whole", *arguments)
        assert failed.exit_code == 2 and said in failed.stderr, (arguments, failed.stderr)
    assert [case.name for case in read_suite(folder).cases] == ["small"]
    assert sorted(path.name for path in folder.iterdir()) == ["small.zst", "suite.toml"]


def test_what_fails_nowhere_here_is_kept_as_its_frame_alone(recorded: Path, tmp_path: Path) -> None:
    added = add(recorded, tmp_path, "class=2", minimize=True, models=str(tmp_path))
    assert added.frames == 1 and "is kept alone, because frame 3 cannot be run here" in added.remark


def test_a_fault_of_replay_itself_ends_its_case_alone(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = running.judge_expectation

    def judge(expectation: Expectation, case: Case, *more: Any) -> Finding:
        if case.name == "right":
            raise KeyError("label")
        return real(expectation, case, *more)

    monkeypatch.setattr(running, "judge_expectation", judge)
    done = run("run", suite, *CANDIDATES, "--only", "[rs]*")
    assert "cannot-run  right\n      - KeyError: 'label'; this is an error of replay itself" in done.stdout
    assert "pass  same" in done.stdout and "fail  still-unsure" in done.stdout


def test_what_no_answer_could_decide_is_no_expectation(recorded: Path, tmp_path: Path) -> None:
    def manual(manifest: Manifest, _: BundleWriter) -> Manifest:
        trigger = replace(manifest.incident.triggers[0], kind="manual")
        return replace(manifest, incident=replace(manifest.incident, triggers=(trigger,)))

    with Bundle.open(recorded) as bundle:
        rewrite(bundle, tmp_path / "manual.zst", operation="pack", transform=manual)
    with pytest.raises(ValueError, match="of the trigger manual one answer cannot tell"):
        add(tmp_path / "manual.zst", tmp_path / "suite", "no-failure")
    assert not (tmp_path / "suite").exists()


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One frame of two calls: a first model answers NaN, which opened the incident, and a second one is sure."""
    directory = tmp_path_factory.mktemp("two")
    recording = Recording(directory)
    for name, argument in (("first", torch.tensor([[0.0, float("nan"), 4.0]])), ("second", LOGITS)):
        recording.attach(models.scores(), name)(argument)
    parameters = {"part": "output", "call": 0, "model": 0}
    trigger = Trigger(kind="non_finite", reason="1 value is NaN", frame=1, time_ns=T0_NS, parameters=parameters)
    recording.triggers.append(trigger)

    def merge(manifest: Manifest, _: BundleWriter) -> Manifest:
        calls = tuple(replace(call, frames=(1,)) for call in manifest.calls)
        return replace(manifest, frames=(replace(manifest.frames[0], calls=(0, 1)),), calls=calls)

    with Bundle.open(recording.write("apart.zst")) as apart:
        rewrite(apart, directory / "incident.zst", operation="minimize", transform=merge)
    return directory / "incident.zst"


def test_a_failure_of_an_earlier_model_of_the_frame_is_no_pass(two_models: Path, tmp_path: Path) -> None:
    add(two_models, tmp_path / "suite", "no-failure", name="nan")
    store = ("--models", two_models.parent / "models")
    code = [f"--model={MODELS}:scores", "--weights=recorded"]
    done = run("run", tmp_path / "suite", *code, *store)
    assert done.exit_code == 1 and "it fires again" in done.stdout, done.output
    tried = CliRunner().invoke(cli, ["run", str(two_models), *code, "--weights=own", "--json", *map(str, store)])
    [frame] = json.loads(tried.stdout)["what_if"]["frames"]
    assert (tried.exit_code, frame["outcome"]) == (1, "still wrong")


def test_stable_goes_by_what_the_service_answers_and_not_by_its_model(tmp_path: Path) -> None:
    def seen(label: str) -> Seen:
        said = Answer(value=MappingValue(items=(("label", ScalarValue(value=label)),)), tensors={})
        model = Answer(value=SequenceValue(form="list", items=(ScalarValue(value=3),)), tensors={})
        return Seen(views=(View(said), View(model)))

    expectation = parse_expectation("stable:image.brightness=0.8..1.2")
    case = Case(name="a", bundle="0" * 64, frame=1, expect=(expectation,))
    for label, holds in (("ok", True), ("dent", False)):
        varied = [("image.brightness=0.8", seen(label))]
        assert judge_expectation(expectation, case, seen("ok"), tmp_path, lambda _, v=varied: v).holds is holds
