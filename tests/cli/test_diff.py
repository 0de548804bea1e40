"""`replay diff`: what changed between two bundles, or two results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorder.bundle import Manifest
from tests.bundles import small_bundle
from tests.cli.conftest import Run, assert_one_sentence, rewrite


def _changed(manifest: Manifest) -> Manifest:
    context = manifest.contexts[0]
    environment = replace(
        context.environment,
        packages={**context.environment.packages, "torch": "9.9\x1b[31m"},
        settings={**context.environment.settings, "torch.num_threads": 7, "torch.backends": {"a": [True, None, "é"]}},
    )
    model = replace(manifest.models[0], weights=replace(manifest.models[0].weights, digest="cd" * 32))
    return replace(manifest, contexts=(replace(context, environment=environment),), models=(model,))


def test_a_bundle_is_the_same_as_itself(replay: Run, bundle: Path):
    """Exit code 0, and every finding passes."""
    ended = replay("diff", bundle, bundle, "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert {row["name"] for row in found} >= {"models", "packages", "settings", "frames", "trigger"}
    assert all(row["passed"] and row["evidence"] == {} for row in found)
    assert "the same: trigger" in replay("diff", bundle, bundle).out


def test_what_changed_is_named_with_both_sides(replay: Run, bundle: Path, tmp_path: Path):
    """Weights, packages, settings; exit code 1; strings of a bundle stay inert."""
    other = rewrite(bundle, tmp_path / "other.zst", _changed)
    ended = replay("diff", bundle, other, "--json")
    assert ended.code == 1
    found = {row["name"]: row for row in json.loads(ended.out)}
    assert {name for name, row in found.items() if not row["passed"]} == {"models", "packages", "settings"}
    assert found["settings"]["evidence"]["torch.num_threads"]["b"] == 7
    assert found["models"]["evidence"]["classifier weights"]["b"] == "cd" * 32
    text = replay("diff", bundle, other).out
    assert "\x1b" not in text and "torch.num_threads" in text
    assert 'torch.backends: none → {"a": [true, null, "é"]}' in text


def test_other_frames_differ(replay: Run, bundle: Path, tmp_path: Path):
    other = small_bundle(tmp_path / "other.zst", frames=3)
    assert replay("diff", bundle, other).code == 1


def _result(path: Path, level: str = "bit-exact", **changes: Any) -> Path:
    data = {
        "format": "vision-flight-recorder replay",
        "format_version": {"major": 1, "minor": 0},
        "bundle": "ab" * 32,
        "verdict": level,
        "reproduced": True,
        "failure_reproduced": None,
        "numerics": "faithful",
        "not_restored": [],
        "frames": [{"id": 3, "level": level, "first_difference": None}],
        "conclusion": "",
        "remedies": [],
        "exit_code": 0,
        **changes,
    }
    path.write_text(json.dumps(data))
    return path


def test_two_results_differ_in_the_verdicts_of_frames(replay: Run, tmp_path: Path):
    """The everyday question after an update: which frames are other than before."""
    before, after = _result(tmp_path / "a.json"), _result(tmp_path / "b.json", "diverged", not_restored=["CPU: …"])
    assert replay("diff", before, before).code == 0
    ended = replay("diff", before, after, "--json")
    assert ended.code == 1
    found = {row["name"]: row for row in json.loads(ended.out)}
    assert found["frames"]["evidence"] == {"frame 3": {"a": "bit-exact", "b": "diverged"}}
    assert not found["verdict"]["passed"] and not found["not restored"]["passed"] and found["numerics"]["passed"]


def test_what_cannot_be_compared_is_one_sentence(replay: Run, bundle: Path, tmp_path: Path):
    """A bundle and a result, a file that is neither, one that is not there."""
    result = _result(tmp_path / "a.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"format": "something"}')
    for arguments, code in (
        ((bundle, result), 2),
        ((broken, broken), 4),
        ((bundle, tmp_path / "missing.zst"), 2),
    ):
        ended = replay("diff", *arguments)
        assert ended.code == code
        assert_one_sentence(ended.err)
