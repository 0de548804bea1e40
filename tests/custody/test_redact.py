"""A redacted bundle holds no byte of what was removed, says what was, and what can still be replayed."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import numpy as np
import pytest

from examples.minimal_reader import Reader
from recorder.bundle import Bundle
from recorder.bundle.check import tensors_in
from recorder.bundle.custody import custody
from recorder.bundle.manifest import Parent
from recorder.bundle.values import RemovedValue
from tests.bundle.test_rewrite import raw_content
from tests.cli.conftest import assert_one_sentence
from tests.custody.conftest import OPERATOR, PATIENT, Run

SECRET = "correct horse battery staple"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A privacy key."""
    path = tmp_path / "privacy.key"
    path.write_text(SECRET + "\n")
    return path


def contents(path: Path) -> bytes:
    """Everything that can be found in a bundle, decompressed."""
    return raw_content(path.read_bytes())


def pieces(data: bytes) -> list[bytes]:
    """Parts of some bytes, each long enough not to stand somewhere by chance."""
    places = range(0, len(data) - 24, max(24, len(data) // 50))
    return [data[at : at + 24] for at in places if len(set(data[at : at + 24])) > 8]


def test_nothing_of_what_was_removed_is_left(bundle: Path, tmp_path: Path, key: Path, replay: Run) -> None:
    """Images, thumbnails, EXIF, the history's pictures, tensors, answers, names and the texts that quote them."""
    out = tmp_path / "out.zst"
    ended = replay(
        "redact", bundle, "-o", out, "--images", "remove", "--drop", "metadata.operator", "--drop", "metadata.patient",
        "--drop", "sensor_time", "--drop", "exception_message", "--level", "track=redacted", "--privacy-key", key,
        "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    found = contents(out)
    with Bundle.open(bundle) as source, Bundle.open(out) as new:
        assert new.verify() == []
        assert custody(new.manifest) == (Parent(bundle=source.id, operation="redact"), *custody(source.manifest))
        gone = [
            source.read(member.path) for member in source.manifest.members if not member.path.startswith("records/")
        ]
        gone += [source.tensor_bytes(tensor) for _, tensor in tensors_in(source.manifest)]
        for frame in source.manifest.frames:
            gone += [source.pixels(image).tobytes() for image in frame.images]
        assert sum(len(pieces(data)) for data in gone) > 500
        assert not [part for data in gone for part in pieces(data) if part in found]
        digests = [image.pixels_sha256 for frame in source.manifest.frames for image in frame.images]
        digests += [tensor.sha256 for _, tensor in tensors_in(source.manifest)]
        digests += [member.sha256 for member in source.manifest.members if not member.path.startswith("records/")]
        assert not [digest for digest in (*digests, "cd" * 32) if digest and digest.encode() in found]
        for text in (OPERATOR, PATIENT, "Erika", "sk-abcdefghijklmnopqrstuvwxyz", SECRET):
            assert text.encode() not in found
            assert text.encode("utf-16le") not in found
        assert list(tensors_in(new.manifest)) == []
        assert new.manifest.track is not None
        assert new.manifest.track.thumbnails == ()
        assert set(next(t for t in new.track() if not t.level.seconds).columns["digest"]) == {0}
        assert new.manifest.required_features == ("removed-values",)
    assert Reader(out.read_bytes()).id == ended.json()["bundle"]


def test_what_is_left_is_form_keyed_digests_and_an_account(
    bundle: Path, tmp_path: Path, key: Path, replay: Run
) -> None:
    """Whoever has the key and the original can prove what was removed; nobody else can guess it."""
    out = tmp_path / "out.zst"
    said = replay("redact", bundle, "-o", out, "--images", "remove", "--privacy-key", key, "--json").json()
    with Bundle.open(bundle) as source, Bundle.open(out) as new:
        before, after = source.manifest, new.manifest
        tensor = before.calls[0].args.items[0]
        removed = after.calls[0].args.items[0]
        assert isinstance(removed, RemovedValue)
        assert removed.shape == (1, 3, 48, 64)
        expected = hmac.new(SECRET.encode(), source.tensor_bytes(tensor), hashlib.sha256).hexdigest()  # type: ignore[arg-type]
        assert removed.digest == f"hmac-sha256:{said['key']}:{expected}"
        [image, left, right] = after.frames[0].images_left_out[-2:] + after.frames[0].images_left_out[:1]
        assert {each.reason for each in (image, left, right)} == {"privacy"}
        original = source.pixels(before.frames[0].images[0]).tobytes()
        digest = hmac.new(SECRET.encode(), original, hashlib.sha256).hexdigest()
        assert image.original_digest == f"hmac-sha256:{said['key']}:{digest}"
        by_field = {each.field: each for each in after.redactions}
        assert by_field["model_input"].derived_from == ("image",)
        assert {each.stage for each in after.redactions} == {"finished"}
        assert re.fullmatch(r"p_[0-9a-f]{16}", str(after.frames[0].metadata["api_key"]))
    assert (said["calls"], said["calls_replayable"]) == (4, 0)


def test_boxes_are_pixelated_and_the_rest_stays(bundle: Path, tmp_path: Path, replay: Run) -> None:
    """By the boxes under a metadata key; the model's input goes with the image unless it is kept by name."""
    out, kept = tmp_path / "out.zst", tmp_path / "kept.zst"
    ended = replay("redact", bundle, "-o", out, "--images", "pixelate", "--boxes", "boxes", "--size", "5")
    assert ended.code == 0
    assert "0 of 4 model calls can still be replayed" in ended.out
    ended = replay("redact", bundle, "-o", kept, "--images", "fill", "--boxes", "boxes", "--level", "model_input=full")
    assert "All 4 model calls" in ended.out
    with Bundle.open(bundle) as source, Bundle.open(out) as new, Bundle.open(kept) as filled:
        for before, after, black in zip(
            source.manifest.frames, new.manifest.frames, filled.manifest.frames, strict=True
        ):
            one, two, three = (b.pixels(f.images[0]) for b, f in ((source, before), (new, after), (filled, black)))
            outside = np.ones(one.shape[:2], bool)
            outside[5:20, 5:20] = False
            assert np.array_equal(one[outside], two[outside])
            assert np.ptp(two[5:10, 5:10], axis=(0, 1)).max() == 0
            assert not three[5:20, 5:20].any()
            assert after.images[1].encoding == "png"
        assert OPERATOR.encode("utf-16le") not in contents(out)


def test_downscaled_images_and_thumbnails(bundle: Path, tmp_path: Path, replay: Run) -> None:
    """Smaller than asked for, and so is what is made of them."""
    out = tmp_path / "out.zst"
    assert replay("redact", bundle, "-o", out, "--images", "downscale", "--size", "10").code == 0
    with Bundle.open(out) as new:
        assert new.verify() == []
        assert all(max(i.height, i.width) <= 10 for frame in new.manifest.frames for i in frame.images)


def test_a_dropped_stream_key_leaves_no_name_behind(bundle: Path, tmp_path: Path, replay: Run) -> None:
    """Frames, incident and history are of a stream whose name was metadata."""
    out = tmp_path / "out.zst"
    assert replay("redact", bundle, "-o", out, "--drop", "metadata.camera").code == 0
    assert b"line-3" not in contents(out)
    with Bundle.open(out) as new:
        assert new.verify() == []
        assert {frame.stream for frame in new.manifest.frames} == {"[removed]"}


def test_only_the_history_or_nothing_at_all(bundle: Path, tmp_path: Path, replay: Run) -> None:
    """--drop track takes all of it, --drop thumbnails its pictures; without options only secrets go."""
    plain, thumbs, history = (tmp_path / f"{n}.zst" for n in range(3))
    assert replay("redact", bundle, "-o", plain, "--json").json()["calls_replayable"] == 4
    assert replay("redact", bundle, "-o", thumbs, "--drop", "thumbnails").code == 0
    assert replay("redact", bundle, "-o", history, "--drop", "track").code == 0
    with (
        Bundle.open(bundle) as source,
        Bundle.open(plain) as one,
        Bundle.open(thumbs) as two,
        Bundle.open(history) as three,
    ):
        assert one.manifest.track == source.manifest.track
        assert [each.field for each in one.manifest.redactions] == ["metadata.api_key"]
        assert not [m for m in two.manifest.members if m.path.startswith("thumbnails/")]
        assert two.read("records/0.msgpack") == one.read("records/0.msgpack")
        assert three.manifest.track is None
        assert not [m for m in three.manifest.members if m.path.startswith("records/")]


def test_a_redacted_bundle_can_be_redacted_further(bundle: Path, tmp_path: Path, key: Path, replay: Run) -> None:
    """The digest of what was recorded stays, the account grows, the chain of custody goes on."""
    one, two = tmp_path / "1.zst", tmp_path / "2.zst"
    given = ("--privacy-key", key)
    assert replay("redact", bundle, "-o", one, "--images", "pixelate", "--boxes", "boxes", *given).code == 0
    assert replay("redact", one, "-o", two, "--images", "fill", *given).code == 0
    with Bundle.open(one) as first, Bundle.open(two) as second:
        digests = [[i.original_digest for f in b.manifest.frames for i in f.images] for b in (first, second)]
        assert digests[0] == digests[1]
        assert None not in digests[0]
        assert len(second.manifest.redactions) > len(first.manifest.redactions)
        assert [parent.operation for parent in custody(second.manifest)] == ["redact", "redact", "pack"]
    shown = replay("show", two)
    assert shown.out.count("from bundle") == 3


def test_pseudonyms_are_the_same_after_a_second_redaction(bundle: Path, tmp_path: Path, key: Path, replay: Run) -> None:
    """Who was told apart before still is, across bundles."""
    one, two = tmp_path / "1.zst", tmp_path / "2.zst"
    given = ("--privacy-key", key, "--level", "metadata.patient=redacted")
    assert replay("redact", bundle, "-o", one, *given).code == 0
    assert replay("redact", one, "-o", two, *given).code == 0
    with Bundle.open(one) as first, Bundle.open(two) as second:
        assert first.manifest.frames[0].metadata == second.manifest.frames[0].metadata
        assert str(first.manifest.frames[0].metadata["patient"]).startswith("p_")
        assert first.manifest.redactions == second.manifest.redactions[: len(first.manifest.redactions)]


def test_a_redacted_bundle_is_run_as_far_as_it_goes(bundle: Path, tmp_path: Path, replay: Run) -> None:
    """No traceback: what cannot be replayed is said."""
    out = tmp_path / "out.zst"
    assert replay("redact", bundle, "-o", out, "--images", "remove").code == 0
    ended = replay("run", out, "--json")
    assert ended.code == 3
    assert ended.json()["verdict"] == "not-replayable"


@pytest.mark.parametrize(
    "options",
    [
        ["--boxes", "faces"],
        ["--size", "3"],
        ["--images", "remove", "--boxes", "faces"],
        ["--drop", "face"],
        ["--level", "image"],
        ["--level", "image=secret"],
        ["--level", "image=redacted"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused(bundle: Path, tmp_path: Path, replay: Run, options: list[str]) -> None:
    """One sentence, exit code 2, no file."""
    ended = replay("redact", bundle, "-o", tmp_path / "out.zst", *options)
    assert ended.code == 2
    assert_one_sentence(ended.err)
    assert not (tmp_path / "out.zst").exists()


def test_a_short_key_is_refused_and_nothing_is_overwritten(bundle: Path, tmp_path: Path, replay: Run) -> None:
    """A key that could be tried is none."""
    (tmp_path / "short.key").write_text("1234")
    ended = replay("redact", bundle, "-o", tmp_path / "out.zst", "--privacy-key", tmp_path / "short.key")
    assert ended.code == 2
    assert_one_sentence(ended.err, ["openssl rand"])
    ended = replay("redact", bundle, "-o", bundle)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["never modified"])


def test_a_field_that_no_frame_has_is_named(bundle: Path, tmp_path: Path, replay: Run) -> None:
    """A name that was mistyped leaves what was meant where it is."""
    words = ("--drop", "metadata.patinet", "--drop", "image.nosuch", "--drop", "output", "--json")
    ended = replay("redact", bundle, "-o", tmp_path / "out.zst", *words)
    assert json.loads(ended.out)["absent"] == ["metadata.patinet", "image.nosuch"]
    assert "metadata.patinet is in none of its frames" in ended.err
