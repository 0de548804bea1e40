"""``suite.toml``: sorted, mergeable, and no way out of its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from replay.cli import cli
from replay.suite import adding
from replay.suite.document import Case, Suite, SuiteInvalid, read_suite, write_suite
from replay.suite.expectation import BadExpectation, parse_expectation
from replay.suite.ground_truth import read_boxes
from replay.suite.history import last_run
from tests.suite.conftest import add

DIGEST = "ab" * 32


def case(name: str, *expect: str, **more: object) -> Case:
    return Case(name=name, bundle=DIGEST, frame=3, expect=tuple(map(parse_expectation, expect or ("class=1",))), **more)


def test_what_is_written_is_read_and_sorted_one_entry_a_line(tmp_path: Path) -> None:
    cases = (case("b", "class=x", "not=y", classes={"x": 1}), case("a", "same-as-recorded", note="it was dark"))
    write_suite(Suite(tmp_path, cases))
    assert read_suite(tmp_path).cases == (cases[1], cases[0])
    text = (tmp_path / "suite.toml").read_text()
    assert text.index("[case.a]") < text.index("[case.b]")
    assert '    "class=x",\n    "not=y",\n' in text
    write_suite(read_suite(tmp_path))
    assert (tmp_path / "suite.toml").read_text() == text


def test_two_branches_that_add_a_case_each_merge(tmp_path: Path) -> None:
    import subprocess

    versions = {"base": "bd", "ours": "abd", "theirs": "bcd"}
    for name, letters in versions.items():
        (tmp_path / name).mkdir()
        write_suite(Suite(tmp_path / name, tuple(map(case, letters))))
    paths = [str(tmp_path / name / "suite.toml") for name in ("ours", "base", "theirs")]
    subprocess.run(["git", "merge-file", *paths], check=True, timeout=60)
    assert [each.name for each in read_suite(tmp_path / "ours").cases] == list("abcd")


HEAD = f'version = 1\n[case.a]\nbundle = "{DIGEST}"\nframe = 3\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 2", "of version '2'"),
        ("version = ", "is no TOML"),
        ("version = 1\nmodel = 'os:system'", "names no code"),
        (HEAD + "expect = ['class=1']\nmodel = 'os:system'", "has the key 'model'"),
        (HEAD + "expect = []", "1 to 32 expectations"),
        (HEAD + "expect = [3]", "is no expectation"),
        (HEAD + "expect = ['boxes~../../etc/passwd']", "and nowhere else"),
        (HEAD + "expect = ['boxes~/etc/passwd']", "and nowhere else"),
        (HEAD + "expect = ['class=1']\nclasses = {a = -1}", "their index"),
        (HEAD + "expect = ['class=\\u001b[2J']".replace("'", '"'), "visible characters"),
        (HEAD.replace("[case.a]", '[case."../a"]') + "expect = ['class=1']", "a name that is none"),
        (HEAD.replace(DIGEST, "x") + "expect = ['class=1']", "64 hex digits"),
        ("version = 1\ncase = " + "[" * 5000, "is no TOML"),
        ("version = 1\ncase = [1]", "names no code"),
    ],
)
def test_what_is_no_suite_is_refused_in_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text(text)
    with pytest.raises(SuiteInvalid, match=said.replace("[", r"\[")):
        read_suite(tmp_path)
    done = CliRunner().invoke(cli, ["suite", "run", str(tmp_path)])
    assert done.exit_code == 4 and done.stderr.count("\n") == 1 and "\x1b" not in done.stderr


def test_links_lead_nowhere(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    added = add(recorded, folder, "class=2", name="linked")
    added.path.rename(tmp_path / "outside.zst")
    added.path.symlink_to(tmp_path / "outside.zst")
    done = CliRunner().invoke(cli, ["suite", "run", str(folder), "--model", "tests.suite.models:scores"])
    assert done.exit_code == 3 and "it is no ordinary file" in done.stdout
    (folder / "suite.toml").rename(tmp_path / "suite.toml")
    (folder / "suite.toml").symlink_to(tmp_path / "suite.toml")
    with pytest.raises(SuiteInvalid, match="no ordinary file"):
        read_suite(folder)


def test_an_empty_suite_checks_nothing_and_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["suite", "run", str(tmp_path)])
    assert done.exit_code == 3 and "no cases" in done.stdout


@given(st.text(max_size=300))
def test_any_text_is_an_expectation_or_a_sentence(text: str) -> None:
    try:
        parsed = parse_expectation(text)
    except BadExpectation as error:
        assert str(error)
    else:
        assert parse_expectation(parsed.text) == parsed


def test_a_range_is_tried_at_five_places_with_its_ends() -> None:
    edits = parse_expectation("stable:image.brightness=0.8..1.2").edits
    assert [edit.amount for edit in edits] == pytest.approx([0.8, 0.9, 1.0, 1.1, 1.2])


def test_nothing_is_written_through_links_that_a_suite_came_with(recorded: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "suite", tmp_path / "outside"
    folder.mkdir()
    outside.write_text("kept")
    for name in (f".suite.toml.{os.getpid()}.part", f".last-run.json.{os.getpid()}.part", "x.boxes.json", "x.zst"):
        (folder / name).symlink_to(outside)
    (tmp_path / "gt.json").write_text('{"boxes": [[0, 0, 1, 1]]}')
    add(recorded, folder, f"boxes~{tmp_path / 'gt.json'}", name="x")
    assert CliRunner().invoke(cli, ["suite", "run", str(folder), "--models", str(tmp_path)]).exit_code == 3
    assert outside.read_text() == "kept" and (folder / ".last-run.json").is_file()
    assert not (folder / "x.zst").is_symlink() and not (folder / "x.boxes.json").is_symlink()


def test_a_case_that_another_adds_meanwhile_is_not_lost(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minimising takes minutes."""
    real = adding.rewrite

    def slow(*words: Any, **more: Any) -> str:
        monkeypatch.setattr(adding, "rewrite", real)
        add(recorded, tmp_path / "suite", "class=2", name="meanwhile")
        return real(*words, **more)

    monkeypatch.setattr(adding, "rewrite", slow)
    add(recorded, tmp_path / "suite", "class=2", name="slow")
    assert [each.name for each in read_suite(tmp_path / "suite").cases] == ["meanwhile", "slow"]
    with monkeypatch.context() as patch, pytest.raises(ValueError, match="has a case slow already"):
        patch.setattr(adding, "_require_free", _let_once(adding._require_free))
        add(recorded, tmp_path / "suite", "class=1", name="slow")
    assert [each.expect[0].text for each in read_suite(tmp_path / "suite").cases] == ["class=2", "class=2"]


def _let_once(check: Callable[..., None]) -> Callable[..., None]:
    """The name was free when it was asked first."""
    asked = iter([None])
    return lambda *words: next(asked, words) and check(*words)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '"x"', '{"cases": []}', '{"cases": {"a": []}}', "[" * 9999])
def test_a_damaged_memory_of_the_last_run_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / ".last-run.json").write_text(text)
    assert not last_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "it is not there"),
        ('{"boxes": [[10, 10, 5, 5]]}', "corners, not width and height"),
        ('{"boxes": [[1, 2], [3, 4]]}', "a box is four numbers"),
        ('{"boxes": [1, 2, 3, 4]}', "a box is four numbers"),
        ('{"boxes": [[0, 0, 1, 1]], "labels": [1, 2]}', "not as many"),
        ('{"boxes": [[0, 0, 1, Infinity]]}', "not finite"),
        ('{"boxes": [[0, 0, 1, 1]], "iou": 0}', "iou lies between"),
        ('{"boxes": [[0, 0, 1, 1]], "min_score": NaN}', "min_score"),
        ("[1]", "holds no boxes"),
    ],
)
def test_boxes_that_are_none_are_refused_in_one_sentence(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_boxes(path)
    path.write_text('{"boxes": []}')
    assert len(read_boxes(path)[0]) == 0  # nothing is to be found
