"""What each command prints for a sound bundle."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recorder.bundle import Bundle
from replay.show.text import cells
from tests.bundles import small_bundle
from tests.cli.conftest import Run, rewrite


def test_show_tells_what_happened_within_80_columns(replay: Run, bundle: Path):
    """Trigger with value and threshold, frames, models, environment, losses."""
    ended = replay("show", bundle)
    assert ended.code == 0
    for expected in ("low_confidence at frame 3", "0.31", "0.5", "line-3", "classifier", "abababab", "capture:opaque"):
        assert expected in ended.out
    assert any(line.split()[:2] == [">", "3"] for line in ended.out.splitlines())
    assert all(cells(line) <= 80 for line in ended.out.splitlines())


def test_show_gives_the_keys_others_rely_on(replay: Run, bundle: Path):
    """The contract's JSON."""
    data = replay("show", bundle, "--json").json()
    with Bundle.open(bundle) as opened:
        assert data["bundle"] == opened.id
    assert data["format_version"] == "1.0"
    assert data["created"].startswith("2025-10-09T08:53:21")
    assert {key: data["trigger"][key] for key in ("kind", "reason", "frame")} == {
        "kind": "low_confidence",
        "reason": "confidence 0.31 is below 0.5",
        "frame": 3,
    }
    assert data["triggers"] == [data["trigger"]]
    assert data["cause"] is None
    assert data["models"][0]["name"] == "classifier"
    assert data["models"][0]["digest"] == "ab" * 32
    assert [frame["id"] for frame in data["frames"]] == [1, 2, 3, 4]
    assert data["frames"][0]["metadata"] == {"camera": "line-3", "trace_id": "t-0"}
    assert data["frames"][0]["time"].endswith("+00:00")
    assert data["lost"] == {"capture:opaque": 1}


def test_show_names_the_top_class_of_a_classifier(replay: Run, bundle: Path, tmp_path: Path):
    """Where the service said nothing, the model's answer stands in the table."""
    quiet = rewrite(
        bundle,
        tmp_path / "quiet.zst",
        lambda manifest: replace(manifest, frames=tuple(replace(frame, output=None) for frame in manifest.frames)),
    )
    assert "class 0 (" in replay("show", quiet).out


def test_show_limits_the_frames_it_lists(replay: Run, tmp_path: Path):
    """A thousand lines help nobody; the frames around the trigger do."""
    many = small_bundle(tmp_path / "many.zst", frames=60, height=4, width=4)
    ended = replay("show", many)
    assert "20 more frames" in ended.out
    assert len(replay("show", many, "--json").json()["frames"]) == 60


def test_show_markdown_is_a_document(replay: Run, bundle: Path):
    """To paste into a ticket."""
    lines = replay("show", bundle, "--markdown").out.splitlines()
    assert lines[0] == "# Incident"
    assert "## Frames (4)" in lines
    assert "| `classifier` | `Sequential` | abababababab | yes, 1.2 kB, 0 graphs |" in lines


def test_verify_says_that_a_bundle_is_intact(replay: Run, bundle: Path):
    """Every byte was read."""
    assert "intact and complete" in replay("verify", bundle).out
    ended = replay("verify", bundle, "--json")
    assert ended.code == 0
    assert ended.json() == {
        "valid": True,
        "complete": True,
        "signed": "none",
        "problems": [],
        "signatures": [],
        "custody": [],
    }


def test_a_salvaged_bundle_is_valid_and_incomplete(replay: Run, bundle: Path, tmp_path: Path):
    """Exit code 6, and show says so."""
    partial = rewrite(bundle, tmp_path / "partial.zst", lambda manifest: replace(manifest, complete=False))
    ended = replay("verify", partial, "--json")
    assert ended.code == 6
    assert ended.json()["complete"] is False
    assert "incomplete" in replay("show", partial).out
    assert replay("extract", partial, "-o", tmp_path / "out").code == 6


def test_extract_writes_images_arrays_and_manifest(replay: Run, bundle: Path, tmp_path: Path):
    """What is extracted equals what the bundle holds."""
    target = tmp_path / "out"
    ended = replay("extract", bundle, "-o", target, "--json")
    assert ended.code == 0
    assert (ended.json()["images"], ended.json()["tensors"]) == (4, 8)
    contents = json.loads((target / "contents.json").read_text())
    with Bundle.open(bundle) as opened:
        frame, call = opened.manifest.frames[0], opened.manifest.calls[0]
        assert np.array_equal(np.asarray(Image.open(target / "images/frame-1-0.png")), opened.pixels(frame.images[0]))
        entry = next(each for each in contents["tensors"] if each["call"] == 101 and each["where"] == "output")
        assert call.output is not None
        assert np.array_equal(np.load(target / entry["file"], allow_pickle=False), opened.array(call.output))
        assert json.loads((target / "manifest.json").read_text())["incident"]["id"] == opened.manifest.incident.id
    names = {path.name for path in target.rglob("*")}
    assert all(name.endswith((".png", ".npy", ".json")) or name in ("images", "tensors") for name in names)


def test_ls_lists_newest_first_and_filters(replay: Run, bundle: Path, tmp_path: Path):
    """By time, stream and cause."""
    sink = tmp_path / "incidents"
    sink.mkdir()

    def made(name: str, stream: str, later_ns: int, cause: str | None) -> None:
        rewrite(
            bundle,
            sink / name,
            lambda manifest: replace(
                manifest,
                incident=replace(
                    manifest.incident,
                    stream=stream,
                    opened_ns=manifest.incident.opened_ns + later_ns,
                    cause={"cause": cause, "confidence": 0.9} if cause else None,
                ),
            ),
        )

    made("a.zst", "line-1", 0, None)
    made("b.zst", "line-2", 10**12, "darker")
    (sink / "c.zst").write_bytes(b"not a bundle")
    (sink / "notes.txt").write_text("not looked at")
    ended = replay("ls", sink)
    assert ended.code == 0
    assert ended.out.index("b.zst") < ended.out.index("a.zst")
    assert "c.zst" in ended.err

    def names(*options: str) -> list[str]:
        return [Path(each["path"]).name for each in replay("ls", sink, "--json", *options).json()["incidents"]]

    assert names() == ["b.zst", "a.zst"]
    assert names("--stream", "line-1") == ["a.zst"]
    assert names("--cause", "darker") == ["b.zst"]
    assert names("--since", "2025-10-09T09:00") == ["b.zst"]
    assert names("--since", "1h") == []
    assert "none of the 2 incidents matches" in replay("ls", sink, "--stream", "x").out
    assert "none of the 2 incidents matches" in replay("ls", sink, "--cause", "fog").out
    unknown = replay("ls", sink, "--cause", "blurred")
    assert unknown.code == 2 and "'blurred'" in unknown.err and "defocus" in unknown.err


def test_ls_gives_paths_as_they_are_typed_next(replay: Run, bundle: Path):
    """From where the sink was named from; scripts get the whole path."""
    named = os.path.relpath(bundle.parent)
    assert f"    {named}/{bundle.name}\n" in replay("ls", named).out
    assert f"    {bundle}\n" in replay("ls", bundle.parent).out
    (only,) = replay("ls", named, "--json").json()["incidents"]
    assert Path(only["path"]).is_absolute() and Path(only["path"]).samefile(bundle)


def test_ls_of_an_empty_directory_is_an_answer(replay: Run, tmp_path: Path):
    """No incident is good news."""
    ended = replay("ls", tmp_path)
    assert (ended.code, ended.out) == (0, "no incidents\n")


def test_recover_of_an_intact_bundle_says_that_nothing_is_needed(replay: Run, bundle: Path, tmp_path: Path):
    """And writes nothing."""
    ended = replay("recover", bundle, "-o", tmp_path / "out")
    assert ended.code == 0
    assert "intact" in ended.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("found", "code"), [(0, 1), (1, 0)])
def test_recover_seals_what_a_ring_holds(
    replay: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: int, code: int
):
    """Nothing to recover is not ok; a complete bundle is."""
    ring = tmp_path / "host.ring"
    ring.write_bytes(b"ring")
    monkeypatch.setattr("recorder.sealer.recover_ring", lambda path, directory: [bundle][:found])
    ended = replay("recover", ring, "-o", tmp_path / "out", "--json")
    assert ended.code == code
    assert ended.json() == {"recovered": [str(bundle)][:found], "incomplete": []}


def test_doctor_tells_the_machine_from_a_process_of_its_own(
    replay: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """torch's effective settings, without torch in this process's answer."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("REPLAY_MODELS", raising=False)
    monkeypatch.setenv("MKL_CBWR", "nonsense; rm -rf")
    ended = replay("doctor", "--json")
    data = ended.json()
    assert data["torch"]["version"] == data["packages"]["torch"]
    assert data["torch"]["cpu_capability"]
    assert set(data["sandbox"]) == {"network", "files"}
    assert any("MKL_CBWR" in problem for problem in data["problems"])
    assert ended.code == 1
