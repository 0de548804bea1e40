"""`replay profile` and `replay diagnose`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle.manifest import Manifest
from replay.cli import cli
from tests.bundles import small_bundle
from tests.cli.conftest import rewrite


def _run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ending:
        cli.main(words)
    out = capsys.readouterr()
    return int(ending.value.code or 0), out.out, out.err


def test_a_profile_is_shown(profile: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cameras and the model it goes with."""
    path = tmp_path / "line.profile"
    profile.save(path)
    code, out, _ = _run(["profile", "show", str(path), "--json"], capsys)
    assert code == 0
    assert json.loads(out)["cameras"][0]["width"] == 96


def test_a_file_that_is_no_profile_is_invalid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4 and one sentence; 2 when it is not there."""
    path = tmp_path / "x.profile"
    path.write_text("[]")
    code, _, err = _run(["profile", "show", str(path)], capsys)
    assert (code, err.count("\n")) == (4, 1)
    assert _run(["profile", "show", str(tmp_path / "none")], capsys)[0] == 2


def test_a_directory_without_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is wanted."""
    code, _, err = _run(["profile", "build", str(tmp_path), "-o", str(tmp_path / "new.profile")], capsys)
    assert code == 2
    assert "holds no images" in err


def test_a_diagnosis_is_of_the_incidents_own_stream(
    profile: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other cameras of the bundle are left alone."""

    def two(manifest: Manifest) -> Manifest:
        first, *others = manifest.frames
        return replace(manifest, frames=(replace(first, stream="other"), *others))

    path = rewrite(small_bundle(tmp_path / "one.zst"), tmp_path / "two.zst", two)
    profile.save(tmp_path / "p.profile")
    for bundle, frames in ((tmp_path / "one.zst", 4), (path, 3)):
        code, out, _ = _run(["diagnose", str(bundle), "--profile", str(tmp_path / "p.profile"), "--json"], capsys)
        assert json.loads(out)["frames"] == frames and code == 3  # of another size than learnt
