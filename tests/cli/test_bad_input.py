"""Wrong arguments, missing files, foreign and damaged bundles: one sentence, the right exit code, no traceback."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from recorder.bundle import Bundle
from tests.cli.conftest import Run, assert_one_sentence

READERS = (["show"], ["verify"], ["run"], ["extract", "-o", "unused"])


def _foreign(kind: str, bundle: Path) -> bytes:
    data = bundle.read_bytes()
    match kind:
        case "empty":
            return b""
        case "noise":
            return random.Random(5).randbytes(5000)
        case "tar":
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                archive.addfile(tarfile.TarInfo("manifest.json"))
            return buffer.getvalue()
        case "jpeg":
            buffer = io.BytesIO()
            Image.new("RGB", (8, 8)).save(buffer, "JPEG")
            return buffer.getvalue()
        case "truncated":
            return data[: len(data) // 2]
        case "beheaded":
            return data[10:]
        case "appended":
            return data + b"x"
    raise AssertionError(kind)


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
@pytest.mark.parametrize("kind", ["empty", "noise", "tar", "jpeg", "truncated", "beheaded", "appended"])
def test_what_is_no_bundle_is_refused_in_one_sentence(
    replay: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], kind: str
):
    """Exit code 4 from every command that reads a bundle."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "foreign.zst"
    path.write_bytes(_foreign(kind, bundle))
    ended = replay(command[0], path, *command[1:])
    assert ended.code == 4
    if command == ["verify"]:
        assert "not valid" in ended.out
        assert "Traceback" not in ended.err
    else:
        assert_one_sentence(ended.err)
        assert ended.out == ""
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
@pytest.mark.parametrize("where", ["missing.zst", ".", "missing/incident.zst"])
def test_a_missing_file_or_a_directory_is_a_usage_error(
    replay: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], where: str
):
    """Exit code 2."""
    monkeypatch.chdir(tmp_path)
    ended = replay(command[0], where, *command[1:])
    assert ended.code == 2
    assert_one_sentence(ended.err)


def test_a_flipped_bit_is_found_by_verify_and_extract(replay: Run, bundle: Path, tmp_path: Path):
    """Opening does not read the members; these two do."""
    with Bundle.open(bundle) as opened:
        member = opened.manifest.frames[1].images[0].member
        index = next(each for each in opened.manifest.members if each.path == member).first_frame
        offset = opened._table.offsets[index] + 600
    data = bytearray(bundle.read_bytes())
    data[offset] ^= 4
    damaged = tmp_path / "damaged.zst"
    damaged.write_bytes(data)
    ended = replay("verify", damaged, "--json")
    assert ended.code == 4
    assert ended.json()["valid"] is False
    assert len(ended.json()["problems"]) == 1
    ended = replay("extract", damaged, "-o", tmp_path / "out")
    assert ended.code == 4
    assert_one_sentence(ended.err)
    assert {path.name for path in (tmp_path / "out/images").iterdir()} == {f"frame-{i}-0.png" for i in (1, 3, 4)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["shwo", "x.zst"],
        ["show"],
        ["show", "a.zst", "b.zst"],
        ["show", "--nonsense", "a.zst"],
        ["run", "a.zst", "--numerics", "exact"],
        ["run", "a.zst", "--device", "cpu; rm -rf"],
        ["run", "a.zst", "--repeat", "0"],
        ["run", "a.zst", "--timeout", "0"],
        ["run", "a.zst", "--timeout", "soon"],
        ["run", "a.zst", "--require", "everything"],
        ["run", "a.zst", "--model", "os.system"],
        ["run", "a.zst", "--model", "a b:c"],
        ["extract", "a.zst"],
        ["ls", "missing"],
        ["ls", "s3://bucket/prefix"],
        ["show", "s3://bucket/key.zst"],
        ["s3://bucket/key.zst"],
        ["missing.zst"],
        ["./missing"],
        ["--json", "missing.zst"],
        ["recover", "missing", "-o", "out"],
        ["recover", ".", "-o", "out"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_a_usage_error(
    replay: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
):
    """Exit code 2 and one sentence."""
    monkeypatch.chdir(tmp_path)
    ended = replay(*arguments)
    assert ended.code == 2
    assert_one_sentence(ended.err)


@pytest.mark.parametrize("frames", ["9", "1,9", "7-9", "x", "3-1", "", "1;2", "-1", "9" * 40])
def test_a_frame_that_is_not_there_is_a_usage_error(replay: Run, bundle: Path, frames: str):
    """The sentence names the frames there are."""
    ended = replay("run", bundle, f"--frames={frames}")
    assert ended.code == 2
    assert_one_sentence(ended.err)
    if frames in ("9", "1,9", "7-9"):
        assert "1-4" in ended.err


@pytest.mark.parametrize("since", ["soon", "1y", "-1h", "2026-13-01", "1h; ls", "99999999999w"])
def test_a_time_that_is_none_is_a_usage_error(replay: Run, tmp_path: Path, since: str):
    """--since takes a span or a date."""
    ended = replay("ls", tmp_path, f"--since={since}")
    assert ended.code == 2
    assert_one_sentence(ended.err)


def test_a_misspelt_command_is_named(replay: Run):
    """The nearest command is suggested."""
    assert "replay verify" in replay("verfy", "x.zst").err


def test_an_error_is_a_json_object_for_those_who_asked_for_json(replay: Run, tmp_path: Path):
    """Scripts read stdout whatever happens."""
    ended = replay("show", tmp_path / "missing.zst", "--json")
    assert ended.json()["exit_code"] == ended.code == 2
    assert "missing.zst" in ended.json()["error"]


def test_an_unforeseen_error_is_one_sentence_and_never_a_verdict(
    replay: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    """Exit code 3, and --debug for the traceback."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("division\nby \x1b[31mzero")

    monkeypatch.setattr("replay.show.story.tell", broken)
    ended = replay("show", bundle)
    assert ended.code == 3
    assert_one_sentence(ended.err, ["ZeroDivisionError", "--debug"])
    with pytest.raises(AssertionError, match="zero"):
        replay("--debug", "show", bundle)


def test_an_interrupt_ends_with_130(replay: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """As the shell expects."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("replay.show.story.tell", interrupted)
    ended = replay("show", bundle)
    assert ended.code == 130
    assert_one_sentence(ended.err.removeprefix("\n"))  # a new line, away from the terminal's ^C


def test_extract_refuses_a_directory_in_use_unless_forced(replay: Run, bundle: Path, tmp_path: Path):
    """Nothing of the user's is overwritten by surprise."""
    (tmp_path / "mine.txt").write_text("precious")
    ended = replay("extract", bundle, "-o", tmp_path)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["--force"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert replay("extract", bundle, "-o", tmp_path, "--force").code == 0
    assert replay("extract", bundle, "-o", tmp_path, "--force").code == 0
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_extract_follows_no_symbolic_link(replay: Run, bundle: Path, tmp_path: Path):
    """Neither the directory, nor a folder in it, nor a file."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    (tmp_path / "link").symlink_to(outside)
    assert replay("extract", bundle, "-o", tmp_path / "link", "--force").code == 2
    target = tmp_path / "target"
    target.mkdir()
    (target / "images").symlink_to(outside)
    ended = replay("extract", bundle, "-o", target, "--force")
    assert ended.code == 2
    assert_one_sentence(ended.err)
    (target / "images").unlink()
    (target / "manifest.json").symlink_to(outside / "victim")
    assert replay("extract", bundle, "-o", target, "--force").code == 0
    assert (outside / "victim").read_text() == "untouched"
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert not (target / "manifest.json").is_symlink()


def test_extract_says_before_writing_that_the_disk_is_too_small(
    replay: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A hostile bundle may name the same bytes a thousand times."""
    monkeypatch.setattr("replay.folder.Folder.free_bytes", lambda folder: 1000)
    ended = replay("extract", bundle, "-o", tmp_path / "out")
    assert ended.code == 2
    assert_one_sentence(ended.err, ["1.0 kB free"])
    assert not any((tmp_path / "out").iterdir())


def test_recover_of_what_is_no_ring_is_refused(replay: Run, tmp_path: Path):
    """A ring is as untrusted as a bundle."""
    path = tmp_path / "x.ring"
    path.write_bytes(b"no ring at all" * 100)
    ended = replay("recover", path, "-o", tmp_path / "out")
    assert ended.code == 4
    assert_one_sentence(ended.err)
