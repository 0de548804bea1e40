"""The other examples, run as a user runs them."""

from __future__ import annotations

from pathlib import Path

from recorder.bundle import Bundle
from tests.product.conftest import ROOT, run


def test_an_exception_is_reproduced_at_the_same_stage(tmp_path: Path) -> None:
    done = run(ROOT / "examples" / "exception.py", tmp_path / "incidents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the service saw: shape '[9, 32, 14, 32, 3]' is invalid" in done.stdout
    assert "bit-exact   3 of 3 frames" in done.stdout and "the failure shows again" in " ".join(done.stdout.split())


def test_the_detector_of_three_networks_replays_every_call(tmp_path: Path) -> None:
    done = run(ROOT / "examples" / "detector.py", tmp_path / "incidents", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bit-exact   7 of 7 frames" in done.stdout
    [path] = (tmp_path / "incidents").glob("*.zst")
    with Bundle.open(path) as bundle:
        manifest = bundle.manifest
        assert [model.name for model in manifest.models] == ["pnet", "rnet", "onet"]
        assert manifest.incident.triggers[0].reason == "no face where there was one"
        assert all(len(frame.calls) >= 3 for frame in manifest.frames if frame.status == "complete")
