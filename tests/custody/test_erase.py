"""Who asks to be forgotten is: in the sink, in spools, in results, in texts; and what may still hold them is named."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from recorder.bundle import Bundle, BundleWriter, Manifest
from recorder.bundle.check import tensors_in
from recorder.bundle.custody import custody
from recorder.bundle.manifest import Parent
from recorder.bundle.rewrite import rewrite
from recorder.bundle.values import has_removed
from recorder.privacy import PrivacyKey
from replay.erasure.conditions import Where
from tests.bundle.test_rewrite import raw_content
from tests.cli.conftest import assert_one_sentence
from tests.custody.conftest import PATIENT, Run, secretive
from tests.ring.rings import make_ring

OTHER = "patient-0815"


def of_two(path: Path) -> Path:
    """A bundle in which frames 2 and 3 are of the patient and a batch serves frames 3 and 4."""
    whole = secretive(path.with_name("whole.zst"), patient=OTHER)

    def mix(manifest: Manifest, writer: BundleWriter) -> Manifest:
        frames = [
            replace(frame, metadata={**frame.metadata, "patient": PATIENT}) if frame.id in (2, 3) else frame
            for frame in manifest.frames
        ]
        frames[3] = replace(frames[3], calls=(103, 104), metadata={**frames[3].metadata, "note": f"after {PATIENT}"})
        calls = [replace(call, frames=(3, 4)) if call.id == 103 else call for call in manifest.calls]
        triggers = tuple(replace(t, reason=f"{t.reason}: {PATIENT}") for t in manifest.incident.triggers)
        late = replace(triggers[1], frame=4)
        incident = replace(manifest.incident, triggers=(triggers[0], late))
        return replace(manifest, frames=tuple(frames), calls=tuple(calls), incident=incident)

    with Bundle.open(whole) as source:
        rewrite(source, path, operation="pack", transform=mix)
    whole.unlink()
    return path


@pytest.fixture
def sink(tmp_path: Path) -> Path:
    """Three bundles: all of the patient, some of the patient, none; with saved results."""
    directory = tmp_path / "incidents"
    directory.mkdir()
    secretive(directory / "all.zst")
    of_two(directory / "some.zst")
    secretive(directory / "none.zst", patient=OTHER)
    for name in ("all", "some", "none"):
        (directory / f"{name}.zst.replay.json").write_text("{}")
    (directory / "models").mkdir()
    return directory


def names(directory: Path) -> list[str]:
    """Files of a directory."""
    return sorted(path.name for path in directory.iterdir() if path.is_file())


def test_first_it_is_said_what_would_be_done(sink: Path, replay: Run) -> None:
    """And nothing is."""
    before = {name: (sink / name).read_bytes() for name in names(sink)}
    ended = replay("erase", sink, "--where", f"patient={PATIENT}")
    assert ended.code == 0
    assert "would delete" in ended.out
    assert "without frames 2-3" in ended.out
    assert "Nothing was changed: add --yes" in ended.out
    assert {name: (sink / name).read_bytes() for name in names(sink)} == before


def test_bundles_and_results_go_and_mixed_bundles_are_rewritten(sink: Path, replay: Run) -> None:
    """No byte of the frames that went is left; the others are as they were, and the rest is not touched."""
    untouched = (sink / "none.zst").read_bytes()
    (sink / "some.zst").chmod(0o600)
    os.utime(sink / "some.zst", ns=(5, 7))
    with Bundle.open(sink / "some.zst") as source:
        gone = [
            source.read(path)[60:]
            for frame in source.manifest.frames
            if frame.id in (2, 3)
            for image in frame.images
            for path in (image.member, image.thumbnail)
            if path is not None
        ]
        batch = tuple(call for call in source.manifest.calls if call.id == 103)
        gone += [source.tensor_bytes(t) for _, t in tensors_in(replace(source.manifest, frames=(), calls=batch))]
        gone += [source.read(thumbnail.member) for thumbnail in source.manifest.track.thumbnails]  # type: ignore[union-attr]
        pixels = source.pixels(source.manifest.frames[3].images[0])
    ended = replay("erase", sink, "--where", f"patient={PATIENT}", "--yes", "--json")
    assert ended.code == 0, ended.out
    assert [(Path(each["path"]).name, each["action"]) for each in ended.json()["bundles"]] == [
        ("all.zst", "delete"),
        ("some.zst", "rewrite"),
    ]
    assert names(sink) == ["none.zst", "none.zst.replay.json", "some.zst"]
    assert (sink / "none.zst").read_bytes() == untouched
    status = (sink / "some.zst").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o600, 7)
    found = raw_content((sink / "some.zst").read_bytes())
    assert len(gone) == 12
    assert not [data for data in gone if data in found]
    assert PATIENT.encode() not in found
    with Bundle.open(sink / "some.zst") as new:
        assert new.verify() == []
        assert custody(new.manifest)[0] == Parent(bundle=source.id, operation="erase")
        assert [frame.id for frame in new.manifest.frames] == [1, 4]
        assert (new.pixels(new.manifest.frames[1].images[0]) == pixels).all()
        assert new.manifest.track is None
        assert new.manifest.incident.lost["erased:frame"] == 2
        after = {call.id: call for call in new.manifest.calls}
        assert sorted(after) == [101, 103, 104]
        assert has_removed(after[103].args)
        assert not has_removed(after[104].args)
        assert new.manifest.incident.triggers[0].reason == "[removed]"
        assert new.manifest.frames[1].metadata["note"] == "after [removed]"
        assert {each.method for each in new.manifest.redactions} == {"erased"}
    again = replay("erase", sink, "--where", f"patient={PATIENT}", "--json").json()
    assert (again["bundles"], again["untouched"], again["complete"]) == ([], 2, True)


def test_whole_bundles_go_when_that_is_asked_for(sink: Path, replay: Run) -> None:
    """--whole: also those in which only some frames match."""
    assert replay("erase", sink, "--where", f"patient={PATIENT}", "--whole", "--yes").code == 0
    assert names(sink) == ["none.zst", "none.zst.replay.json"]


def test_several_conditions_must_all_hold(sink: Path, replay: Run) -> None:
    """A camera and a patient."""
    secretive(sink / "elsewhere.zst", stream="line-9")
    ended = replay("erase", sink, "--where", f"patient={PATIENT}", "--where", "camera=line-9", "--yes", "--json")
    assert [Path(each["path"]).name for each in ended.json()["bundles"]] == ["elsewhere.zst"]
    assert "all.zst" in names(sink)


def test_what_cannot_be_read_is_named_and_the_rest_is_done(sink: Path, tmp_path: Path, replay: Run) -> None:
    """Damaged and encrypted bundles, unfinished files and rings may hold it: exit code 1."""
    identity = pyrage.x25519.Identity.generate()
    (sink / "damaged.zst").write_bytes((sink / "all.zst").read_bytes()[:-300])
    pyrage.encrypt_file(str(sink / "all.zst"), str(sink / "locked.zst.age"), [identity.to_public()])
    (sink / ".all.zst.1234.partial").write_bytes(b"half")
    spool = tmp_path / "spool"
    (spool / "deep").mkdir(parents=True)
    secretive(spool / "deep" / "waiting.zst")
    make_ring(spool / "host.ring").close()
    ended = replay("erase", sink, "--where", f"patient={PATIENT}", "--spool", spool, "--yes", "--json")
    assert ended.code == 1
    said = ended.json()
    assert not said["complete"]
    assert sorted(Path(each["path"]).name for each in said["unreadable"]) == [
        ".all.zst.1234.partial", "damaged.zst", "host.ring", "locked.zst.age",
    ]  # fmt: skip
    assert not (spool / "deep" / "waiting.zst").exists()
    assert "all.zst" not in names(sink)
    (tmp_path / "own.txt").write_text(f"{identity}\n")
    opened = replay("erase", sink, "--where", f"patient={PATIENT}", "--identity", tmp_path / "own.txt", "--yes")
    assert "locked.zst.age" not in names(sink)
    assert opened.out.count("may hold it") == 2


def test_an_encrypted_or_damaged_bundle_goes_whole_or_not(sink: Path, tmp_path: Path, replay: Run) -> None:
    """It could not be written again as it was; that is said, and nothing is done to it."""
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "own.txt").write_text(f"{identity}\n")
    pyrage.encrypt_file(str(sink / "some.zst"), str(sink / "locked.zst.age"), [identity.to_public()])
    data = bytearray((sink / "some.zst").read_bytes())
    with Bundle.open(bytes(data)) as bundle:
        member = bundle.manifest.members[5]
        data[bundle.layout.offsets[member.first_frame] + 30] ^= 1
    (sink / "some.zst").write_bytes(data)
    words = ("erase", sink, "--where", f"patient={PATIENT}", "--identity", tmp_path / "own.txt", "--yes")
    ended = replay(*words)
    assert ended.code == 1
    assert ended.out.count("not done") == 2
    assert {"some.zst", "locked.zst.age"} <= {*names(sink)}
    assert replay(*words, "--whole").code == 0
    assert names(sink) == ["none.zst", "none.zst.replay.json"]


def test_copies_made_from_an_erased_bundle_are_named(sink: Path, tmp_path: Path, replay: Run) -> None:
    """A redacted copy has lost the metadata by which it would be found, but not where it comes from."""
    copy = sink / "copy.zst"
    assert replay("redact", sink / "all.zst", "-o", copy, "--drop", "metadata.patient").code == 0
    ended = replay("erase", sink, "--where", f"patient={PATIENT}", "--yes", "--json")
    assert ended.code == 1
    assert [Path(each["path"]).name for each in ended.json()["descendants"]] == ["copy.zst"]
    assert copy.exists()


def test_pseudonyms_are_found_under_their_key(sink: Path, tmp_path: Path, replay: Run) -> None:
    """Who has the key can still find everybody."""
    (tmp_path / "privacy.key").write_text("correct horse battery staple")
    given = ("--privacy-key", tmp_path / "privacy.key")
    level = ("--level", "metadata.patient=redacted")
    assert replay("redact", sink / "all.zst", "-o", tmp_path / "copy.zst", *level, *given).code == 0
    for name in names(sink):
        (sink / name).unlink()
    (tmp_path / "copy.zst").rename(sink / "copy.zst")
    assert replay("erase", sink, "--where", f"patient={PATIENT}", "--json").json()["bundles"] == []
    assert replay("erase", sink, "--where", f"patient={PATIENT}", *given, "--yes").code == 0
    assert names(sink) == []


def test_a_kill_in_the_middle_leaves_the_old_or_the_new(
    sink: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new bundle takes the old one's name in one step, after it is on the disk."""
    before = (sink / "some.zst").read_bytes()
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def watched_sync(descriptor: int) -> None:
        steps.append("sync")
        sync(descriptor)

    def killed(self: Path, target: Path) -> Path:
        steps.append("rename")
        assert steps[-2:] == ["sync", "rename"]
        assert Path(target).read_bytes() == before
        raise OSError(5, "killed")

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", killed)
    ended = replay("erase", sink, "--where", f"patient={PATIENT}", "--yes")
    assert ended.code == 1
    assert (sink / "some.zst").read_bytes() == before
    monkeypatch.setattr(Path, "replace", rename)
    assert replay("erase", sink, "--where", f"patient={PATIENT}", "--yes").code == 0
    assert (sink / "some.zst").read_bytes() != before


def test_conditions_are_compared_by_type_and_path() -> None:
    """Numbers by value, texts as they are, dots into dictionaries, lists by any element."""
    metadata = {
        "n": 7,
        "f": 0.5,
        "t": "7",
        "b": True,
        "who": {"id": "x", "a.b": 1},
        "tags": ["p", {"q": 1}],
        "k.l": "z",
    }
    for text in ("n=7", "f=0.5", "t=7", "b=true", "who.id=x", "who.a.b=1", "tags=p", "k.l=z"):
        key, _, value = text.partition("=")
        assert Where({key: value}).matches(metadata), text  # type: ignore[arg-type]
    for text in ("n=7.0", "n=x", "b=1", "who=x", "who.id=y", "tags=q", "missing=1", "n=[", "who.id.x=1"):
        key, _, value = text.partition("=")
        assert not Where({key: value}).matches(metadata), text  # type: ignore[arg-type]
    key = PrivacyKey(b"correct horse battery staple")
    assert Where({"t": "Erika"}, key).matches({"t": key.pseudonym("Erika")})


def test_wrong_arguments(sink: Path, tmp_path: Path, replay: Run) -> None:
    """One sentence, exit code 2."""
    for options in (["--where", "patient"], ["--where", "=x"], ["--where", "a=1", "--where", "a=2"], []):
        ended = replay("erase", sink, *options)
        assert ended.code == 2
        assert_one_sentence(ended.err)
    assert replay("erase", tmp_path / "missing", "--where", "a=1").code == 2
    assert replay("erase", "s3://bucket/prefix", "--where", "a=1").code == 2
