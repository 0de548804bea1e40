"""`replay recover BUNDLE`: a truncated or damaged bundle becomes a smaller, honest one."""

from __future__ import annotations

from pathlib import Path

from recorder.bundle import Bundle
from tests.cli.conftest import Run, assert_one_sentence


def test_a_truncated_bundle_is_salvaged_and_can_be_shown(replay: Run, bundle: Path, tmp_path: Path):
    """Exit code 6; the new bundle passes `verify` as incomplete, and `show`, `extract` and `run` take it."""
    damaged = tmp_path / "damaged.zst"
    data = bundle.read_bytes()
    damaged.write_bytes(data[: len(data) * 2 // 3])
    ended = replay("recover", damaged, "-o", tmp_path / "out")
    assert (ended.code, ended.err) == (6, "")
    assert "incomplete" in ended.out
    assert "members are intact; lost:" in " ".join(ended.out.split())
    [recovered] = (tmp_path / "out").iterdir()
    assert recovered.name == "damaged-recovered.zst"
    assert replay("verify", recovered, "--json").json()["complete"] is False
    assert replay("verify", recovered).code == 6
    assert replay("show", recovered).code in (0, 6)
    assert replay("show", recovered, "--json").json()["lost"]["salvage:tensor"] > 0
    assert replay("extract", recovered, "-o", tmp_path / "files").code in (0, 6)
    assert replay("run", recovered).code in (3, 6)
    assert damaged.read_bytes() == data[: len(data) * 2 // 3]


def test_a_second_salvage_replaces_nothing(replay: Run, bundle: Path, tmp_path: Path):
    """The first may have saved more."""
    damaged = tmp_path / "damaged.zst"
    damaged.write_bytes(bundle.read_bytes()[:-1])
    for name in ("damaged-recovered.zst", "damaged-recovered-2.zst"):
        ended = replay("recover", damaged, "-o", tmp_path / "out", "--json")
        assert ended.code == 6
        assert ended.json()["recovered"] == ended.json()["incomplete"] == [str(tmp_path / "out" / name)]
        assert ended.json()["lost"] == {}
        with Bundle.open(tmp_path / "out" / name) as opened:
            assert opened.verify() == []


def test_a_bundle_with_a_damaged_manifest_is_refused(replay: Run, bundle: Path, tmp_path: Path):
    """Exit code 4, one sentence, nothing written."""
    damaged = tmp_path / "damaged.zst"
    damaged.write_bytes(bundle.read_bytes()[:200])
    ended = replay("recover", damaged, "-o", tmp_path / "out")
    assert ended.code == 4
    assert_one_sentence(ended.err, ["fetch it again", "ring"])
    assert [each.name for each in tmp_path.iterdir()] == ["damaged.zst"]


def test_an_intact_bundle_needs_nothing(replay: Run, bundle: Path, tmp_path: Path):
    """Exit code 0 and no file."""
    ended = replay("recover", bundle, "-o", tmp_path / "out")
    assert ended.code == 0
    assert "nothing to recover" in ended.out
    assert not (tmp_path / "out").exists()
