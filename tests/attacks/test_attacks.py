"""Every attack file ends in exit code 4 and one sentence, or is shown inert; in bounded memory and time."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from recorder.bundle.limits import MIB
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
@pytest.mark.parametrize("command", ["show", "show --markdown", "show --json", "verify", "ls", "extract"])
def test_hostile_strings_are_shown_inert(name: str, command: str, tmp_path: Path) -> None:
    """No control, bidirectional or zero-width character reaches a terminal; JSON is ASCII."""
    path = tmp_path / "bundle.zst"
    path.write_bytes(attack_bundle(name))
    word, *options = command.split()
    extra = ["-o", tmp_path / "out"] if word == "extract" else []
    used = run_replay(word, tmp_path if word == "ls" else path, *options, *extra, cwd=tmp_path)
    assert used.code == 0
    assert "Traceback" not in used.err
    for text in (used.out, used.err):
        assert not [c for c in text if unicodedata.category(c)[0] == "C" and c != "\n"]
    if "--json" in options:
        assert used.out.isascii()
    if "--markdown" in options:
        outside = "".join(part for line in used.out.splitlines() for part in line.split("`")[::2])
        assert not [active for active in ("<script", "<img", "@team", "](http") if active in outside]
    for written in (tmp_path / "out").rglob("*"):
        assert written.name.isascii()
        assert written.name.replace("-", "").replace(".", "").isalnum()
