"""Every attack file ends in exit code 4 and one sentence, or is shown inert; in bounded memory and time."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from recorder.bundle import Bundle
from recorder.bundle.limits import MIB
from replay.cli import cli
from tests.attacks.bundles import INERT, REFUSED, attack_bundle
from tests.attacks.guarded import Used, run_replay
from tests.golden.regenerate import FOLDER

#: Beyond what `replay verify` takes for an honest bundle: the caps of manifest (its text and its tree) and of a frame.
ALLOWED_BYTES = 160 * MIB
ALLOWED_SECONDS = 2.0

ESCAPES = ("zstd-bomb-of-zeros", "png-inflates-to-a-gigabyte", "path-conftest", "tar-symbolic-link")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Used:
    """What an honest bundle takes."""
    used = run_replay("verify", FOLDER / "1.0-batch.zst", cwd=tmp_path_factory.mktemp("honest"))
    assert used.code == 0
    return used


@pytest.mark.parametrize("name", REFUSED)
def test_an_attack_is_refused_in_one_sentence(name: str, honest: Used, tmp_path: Path) -> None:
    """Exit code 4, no traceback, nothing written, little taken."""
    path = tmp_path / f"{name}.zst"
    path.write_bytes(attack_bundle(name))
    used = run_replay("verify", path, "--json", cwd=tmp_path)
    assert used.code == 4
    assert "Traceback" not in used.err
    [problem, *_] = json.loads(used.out)["problems"]
    assert problem.isprintable()
    assert len(problem) <= 400
    assert list(tmp_path.iterdir()) == [path]
    assert used.peak_bytes < honest.peak_bytes + ALLOWED_BYTES
    assert used.cpu_seconds < honest.cpu_seconds + ALLOWED_SECONDS


@pytest.mark.parametrize("name", ESCAPES)
def test_no_attack_leaves_the_directory_of_extract_or_recover(name: str, honest: Used, tmp_path: Path) -> None:
    """What is written stands under the folder and has a name of ours."""
    path = tmp_path / f"{name}.zst"
    path.write_bytes(attack_bundle(name))
    for command in ("extract", "recover"):
        used = run_replay(command, path, "-o", tmp_path / command, cwd=tmp_path)
        assert used.code in (0, 4, 6)  # 0: a picture is copied as it is, whatever it would inflate to
        assert "Traceback" not in used.err
        assert used.peak_bytes < honest.peak_bytes + ALLOWED_BYTES
        assert used.cpu_seconds < honest.cpu_seconds + ALLOWED_SECONDS
    written = [each.relative_to(tmp_path) for each in tmp_path.rglob("*") if each != path and not each.is_dir()]
    assert {each.parts[0] for each in written} <= {"extract", "recover"}
    assert {each.suffix for each in written} <= {".png", ".npy", ".json", ".zst"}


@pytest.mark.parametrize("name", INERT)
@pytest.mark.parametrize("command", ["show", "show --markdown", "show --json", "verify", "ls", "extract", "recover"])
def test_hostile_strings_are_shown_inert(name: str, command: str, tmp_path: Path) -> None:
    """No control, bidirectional or zero-width character reaches a terminal; JSON is ASCII."""
    path = tmp_path / "bundle.zst"
    path.write_bytes(attack_bundle(name))
    word, *options = command.split()
    extra = ["-o", tmp_path / "out"] if word in ("extract", "recover") else []
    done = _replay(word, tmp_path if word == "ls" else path, *options, *extra)
    assert done.exit_code == 0
    _assert_inert(done)
    if "--json" in options:
        assert done.stdout.isascii()
    if "--markdown" in options:
        outside = "".join(part for line in done.stdout.splitlines() for part in line.split("`")[::2])
        assert not [active for active in ("<script", "<img", "@team", "](http") if active in outside]
    for written in (tmp_path / "out").rglob("*"):
        assert written.name.isascii()
        assert written.name.replace("-", "").replace(".", "").isalnum()


@pytest.mark.parametrize("options", [[], ["--json"], ["--save"]], ids=str)
def test_a_replay_says_nothing_that_acts(options: list[str], tmp_path: Path) -> None:
    """The verdict, the reasons and the result file, of a bundle that attacks with every string it has."""
    path = tmp_path / "bundle.zst"
    path.write_bytes(attack_bundle("strings-in-everything"))
    done = _replay("run", path, *options)
    assert done.exit_code == 3
    _assert_inert(done)
    results = [each for each in tmp_path.iterdir() if each != path]
    assert [each.name for each in results] == (["bundle.zst.replay.json"] if options == ["--save"] else [])
    assert all(each.read_text("ascii").isprintable() or "\n" in each.read_text() for each in results)


def test_the_attack_reaches_every_string_that_the_format_leaves_free() -> None:
    """What it does not reach are enumerations, digests, paths of members: the reader refuses anything else there."""
    reached: dict[tuple[str, str], bool] = {}
    with Bundle.open(attack_bundle("strings-in-everything")) as bundle:
        assert not bundle.verify()
        _look(bundle.manifest, reached)
    closed = {name for (_, name), hit in reached.items() if not hit}
    assert closed == {
        "autocast", "bundle", "closed_by", "container", "device", "digest", "dtype", "encoding", "form", "format",
        "framework", "git_commit", "host", "id", "member", "operation", "original_digest", "path", "pixels_sha256",
        "reason", "required_features", "sha256", "signature", "source", "stage", "status", "thumbnail",
    }  # fmt: skip
    assert sum(reached.values()) > 30


def _look(node: Any, reached: dict[tuple[str, str], bool]) -> None:
    """Note of each field that may hold text whether the attack stands in it."""
    if dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if "str" in str(field.type) or "Json" in str(field.type):
                key = type(node).__name__, field.name
                reached[key] = reached.get(key, False) or "\\x1b" in repr(value)
            _look(value, reached)
    elif isinstance(node, list | tuple):
        for item in node:
            _look(item, reached)
    elif isinstance(node, dict):
        _look(list(node.values()), reached)


def _replay(*arguments: object) -> Result:
    """In this process: these attack whoever shows them, and are small."""
    return CliRunner().invoke(cli, list(map(str, arguments)))


def _assert_inert(done: Result) -> None:
    assert done.exception is None or isinstance(done.exception, SystemExit)
    for text in (done.stdout, done.stderr):
        assert not [c for c in text if unicodedata.category(c)[0] == "C" and c != "\n"]
