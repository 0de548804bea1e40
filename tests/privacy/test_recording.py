"""What a recorder with a privacy policy seals, and what it keeps out of its ring."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image as pil

from recorder import FlightRecorder, PrivacyPolicy, Redactor
from recorder.bundle import Bundle
from recorder.bundle.manifest import Manifest
from recorder.bundle.values import MappingValue, RemovedValue, SequenceValue, TensorValue
from recorder.privacy import PrivacyKey, load_key
from replay.cli import cli
from tests.privacy.plants import everything_in, pattern, places_of

Make = Callable[..., FlightRecorder]
Bundles = Callable[[], list[Bundle]]

BOX = [[8, 8, 40, 40]]
REDACTED = {"image": "redacted"}


def scene() -> np.ndarray[Any, Any]:
    """A dark picture with a pattern that nothing else has, inside BOX."""
    pixels = np.full((64, 96, 3), 20, np.uint8)
    pixels[8:40, 8:40] = pattern(32)
    return pixels


def seal(recorder: FlightRecorder, model: Any, image: Any, **metadata: Any) -> None:
    """One frame with the image, the model and the image once more as the service's answer; and an incident."""
    watched = recorder.attach(model, store=False)
    with recorder.frame(image=image, camera="line-3", **metadata) as frame:
        pixels = image if isinstance(image, np.ndarray) else np.asarray(pil.open(io.BytesIO(image)))
        watched(torch.from_numpy(pixels.copy()))
        frame.output = {"crop": pixels, "who": "PLANTED-WHO"}
    recorder.trigger("look at this")
    assert recorder.flush(timeout=120)


def echo() -> torch.nn.Module:
    """A model whose answer is its input."""
    return torch.nn.Identity().eval()


def sealed(bundles: Bundles) -> tuple[Manifest, bytes]:
    """The manifest of the only bundle, and every byte of it unpacked."""
    [bundle] = bundles()
    assert bundle.verify() == []
    return bundle.manifest, everything_in(bundle)


def test_by_default_nothing_is_redacted_but_credentials(make_recorder: Make, bundles: Bundles) -> None:
    """Keys of the denylist and credentials in texts go, in nested metadata too; the rest stays as it was given."""
    recorder = make_recorder()
    with recorder.frame(image=scene(), camera="line-3", password="hunter2!", nested={"userEmail": "a@b.c", "n": 1}):
        pass
    recorder.trigger("call https://ops:sesame@example.org/x")
    assert recorder.flush(timeout=120)
    manifest, content = sealed(bundles)
    [frame] = manifest.frames
    assert frame.metadata == {"camera": "line-3", "password": "[removed]", "nested": {"userEmail": "[removed]", "n": 1}}
    assert manifest.incident.triggers[0].reason == "call https://[removed]@example.org/x"
    assert frame.images[0].original_digest is None and not frame.images_left_out
    assert {(each.field, each.method) for each in manifest.redactions} == {
        ("metadata.password", "removed"),
        ("metadata.nested.userEmail", "removed"),
        ("trigger.reason", "pattern"),
    }
    assert not places_of(["hunter2!", "a@b.c", "sesame"], content)


def test_pseudonyms_are_the_same_in_every_bundle_under_a_key(
    make_recorder: Make, bundles: Bundles, key_file: Path
) -> None:
    """Within a bundle, across recorders; and what `PrivacyKey` says: a holder of the key finds them."""
    for camera in ("a", "b"):
        recorder = make_recorder(privacy={"levels": {"metadata.operator": "redacted"}}, privacy_key=key_file)
        with recorder.frame(camera=camera, email="ada@example.org", operator="ada@example.org"):
            pass
        recorder.trigger(camera)
        assert recorder.flush(timeout=120)
    key = load_key(key_file)
    assert key is not None
    pseudonym = key.pseudonym("ada@example.org")
    for bundle in bundles():
        [frame] = bundle.manifest.frames
        assert frame.metadata["email"] == frame.metadata["operator"] == pseudonym
        assert {each.key for each in bundle.manifest.redactions} == {key.id}
        assert not places_of(["ada@example.org", key_file.read_text().strip()], everything_in(bundle))


@pytest.mark.parametrize("file", ["", "JPEG", "PNG", "WEBP"])
def test_a_redacted_image_takes_every_derived_copy_with_it(
    make_recorder: Make, bundles: Bundles, key_file: Path, file: str
) -> None:
    """Thumbnails show the filled box; the model's input and answer and the service's are gone; so is EXIF."""
    policy = PrivacyPolicy(levels=REDACTED, redactors={"image": Redactor.fill("faces")})
    recorder = make_recorder(privacy=policy, privacy_key=key_file)
    image: Any = scene()
    if file:
        target, exif = io.BytesIO(), pil.Exif()
        exif[0x010E] = "PLANTED-IN-EXIF"
        kind = {"quality": 95} if file == "JPEG" else {"lossless": True} if file == "WEBP" else {}
        pil.fromarray(image).save(target, file, exif=exif, **kind)
        image = target.getvalue()
    seal(recorder, echo(), image, faces=BOX)
    [bundle] = bundles()
    manifest = bundle.manifest
    [frame] = manifest.frames
    [stored] = frame.images
    pixels = bundle.pixels(stored)
    assert stored.encoding == "png" and not pixels[8:40, 8:40].any() and abs(int(pixels[60, 90, 0]) - 20) < 3
    original = np.ascontiguousarray(image).tobytes() if isinstance(image, np.ndarray) else image
    key = load_key(key_file)
    assert key is not None and stored.original_digest == key.stated(original)
    assert stored.thumbnail is not None
    small = np.asarray(pil.open(io.BytesIO(bundle.read(stored.thumbnail))))
    assert small.mean() < 25
    [call] = manifest.calls
    [argument] = call.args.items
    assert isinstance(argument, RemovedValue) and argument.shape == (64, 96, 3) and argument.dtype == "uint8"
    assert isinstance(call.output, RemovedValue) and call.output.digest == argument.digest
    assert isinstance(frame.output, MappingValue) and [key for key, _ in frame.output.items] == [0, 1]
    assert frame.output.items[1][1] == RemovedValue(kind="scalar")
    assert manifest.required_features == ("removed-values",)
    derived = {each.field: each.derived_from for each in manifest.redactions}
    assert derived == {
        "image": (), "model_input": ("image",), "model_output": ("model_input", "image"),
        "output": ("model_output", "model_input", "image"),
    }  # fmt: skip
    assert manifest.track is not None
    for thumbnail in manifest.track.thumbnails:
        assert np.asarray(pil.open(io.BytesIO(bundle.read(thumbnail.member)))).mean() < 25
    assert {row for table in bundle.track() for row in table.columns.get("digest", [])} <= {0}
    content = everything_in(bundle)
    assert not places_of(["PLANTED-IN-EXIF", "PLANTED-WHO"], content)
    assert pattern(32)[3].tobytes() not in content


def test_what_is_digest_only_never_reaches_the_ring(make_recorder: Make, bundles: Bundles, key_file: Path) -> None:
    """Neither ring nor track holds a row of the image, the metadata or the message; digests and shapes remain."""
    policy = {
        "levels": {"image": "digest-only", "metadata.operator": "digest-only", "exception_message": "digest-only"}
    }
    recorder = make_recorder(privacy=policy, privacy_key=key_file)
    model = recorder.attach(echo(), store=False)
    image = scene()
    with pytest.raises(ValueError), recorder.frame(image=image, operator="PLANTED-ADA", camera="c") as frame:
        model(torch.from_numpy(image.copy()))
        frame.output = image
        raise ValueError("PLANTED-MESSAGE")
    assert recorder.flush(timeout=120)
    ring = next(path for path in key_file.parent.glob("ring-0/*.ring") if path.is_file())
    beside = b"".join(path.read_bytes() for path in ring.parent.iterdir() if path.is_file())
    manifest, content = sealed(bundles)
    for data in (beside, content):
        assert not places_of(["PLANTED-ADA", "PLANTED-MESSAGE"], data)
        assert pattern(32)[3].tobytes() not in data
    [frame_] = manifest.frames
    key = load_key(key_file)
    assert key is not None
    [left_out] = frame_.images_left_out
    assert left_out.reason == "privacy" and left_out.sha256 is None
    assert left_out.original_digest == key.stated(image.tobytes())
    assert frame_.metadata["operator"] == key.pseudonym("PLANTED-ADA")
    assert frame_.exception is not None and frame_.exception.message == ""
    [argument] = manifest.calls[0].args.items
    assert isinstance(argument, RemovedValue) and argument.digest == left_out.original_digest
    assert manifest.track is None


def test_without_a_key_there_is_no_digest(make_recorder: Make, bundles: Bundles) -> None:
    """A plain digest would confirm a guess."""
    recorder = make_recorder(privacy={"levels": {"image": "digest-only"}})
    seal(recorder, echo(), scene())
    manifest, _ = sealed(bundles)
    assert manifest.frames[0].images_left_out[0].original_digest is None
    [argument] = manifest.calls[0].args.items
    assert isinstance(argument, RemovedValue) and argument.digest is None
    assert all(each.key is None for each in manifest.redactions)


def test_what_the_policy_keeps_stays_exact(make_recorder: Make, bundles: Bundles) -> None:
    """A user who says that the input does not show the image has it bit for bit, and what is made from it."""
    policy = PrivacyPolicy(levels={**REDACTED, "model_input": "full"}, redactors={"image": Redactor.pixelate()})
    recorder = make_recorder(privacy=policy)
    seal(recorder, echo(), scene())
    [bundle] = bundles()
    [call] = bundle.manifest.calls
    assert isinstance(call.args, SequenceValue) and isinstance(call.args.items[0], TensorValue)
    assert np.array_equal(bundle.array(call.args.items[0]), scene())
    assert isinstance(call.output, TensorValue)
    assert [each.field for each in bundle.manifest.redactions] == ["image"]


def test_each_image_of_a_frame_has_its_level(make_recorder: Make, bundles: Bundles) -> None:
    """The left one is smaller, the right one as it was, the third is gone."""
    policy = PrivacyPolicy(
        levels={"image.left": "redacted", "image.third": "digest-only"},
        redactors={"image.left": Redactor.downscale(factor=8)},
    )
    recorder = make_recorder(privacy=policy)
    with recorder.frame(images={"left": scene(), "right": scene(), "third": scene()}):
        pass
    recorder.trigger("look")
    assert recorder.flush(timeout=120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    images = {image.name: image for image in frame.images}
    assert bundle.pixels(images["left"]).shape == (8, 12, 3)
    assert np.array_equal(bundle.pixels(images["right"]), scene())
    assert [each.name for each in frame.images_left_out] == ["third"]


@pytest.mark.parametrize(("function", "kept"), [("faces", True), ("broken", False), ("missing", False)])
def test_a_function_redacts_in_the_sealer_or_the_image_is_left_out(
    make_recorder: Make, bundles: Bundles, function: str, kept: bool
) -> None:
    """It gets pixels and metadata; one that raises or is not there costs the image, which is counted."""
    steps = (Redactor.function(f"tests.privacy.faces:{function}"),)
    recorder = make_recorder(privacy=PrivacyPolicy(levels=REDACTED, redactors={"image": steps}))
    seal(recorder, echo(), scene(), until=48)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    if kept:
        pixels = bundle.pixels(frame.images[0])
        assert not pixels[:, :48].any() and (pixels[:, 48:] == 20).all()
    else:
        assert not frame.images and frame.images_left_out[0].reason == "redaction-failed"
        assert bundle.manifest.incident.lost["image-not-redacted"] == 1
    assert pattern(32)[3].tobytes() not in everything_in(bundle)


def test_boxes_may_be_found_by_the_model(make_recorder: Make, bundles: Bundles) -> None:
    """They are taken from the metadata the frame ended with; without any the whole image goes."""
    policy = PrivacyPolicy(levels=REDACTED, redactors={"image": Redactor.fill("faces")})
    recorder = make_recorder(privacy=policy)
    with recorder.frame(image=scene()) as frame:
        frame["faces"] = BOX
    with recorder.frame(image=scene()):
        pass
    recorder.trigger("look")
    assert recorder.flush(timeout=120)
    [bundle] = bundles()
    first, second = (bundle.pixels(frame.images[0]) for frame in bundle.manifest.frames)
    assert first[0, 0, 0] == 20 and not first[8:40, 8:40].any()
    assert not second.any()


def test_the_place_a_photograph_was_taken_at_can_be_cut_out_of_it(make_recorder: Make, bundles: Bundles) -> None:
    """At level "full": the same pixels, the rest of EXIF still there."""
    recorder = make_recorder(privacy={"strip_location": True})
    target, exif = io.BytesIO(), pil.Exif()
    exif[0x010F], exif[0x8825] = "Maker", {1: "N", 2: (52.0, 31.0, 12.0)}
    pil.fromarray(scene()).save(target, "JPEG", exif=exif)
    with recorder.frame(image=target.getvalue()):
        pass
    recorder.trigger("look")
    assert recorder.flush(timeout=120)
    [bundle] = bundles()
    [image] = bundle.manifest.frames[0].images
    stored = pil.open(io.BytesIO(bundle.read(image.member)))
    assert 0x8825 not in stored.getexif() and stored.getexif()[0x010F] == "Maker"
    assert np.array_equal(np.asarray(stored), np.asarray(pil.open(target)))
    assert [each.method for each in bundle.manifest.redactions] == ["location"]


def test_a_stream_named_by_a_secret_has_a_pseudonym(make_recorder: Make, bundles: Bundles) -> None:
    """Also without a key streams are told apart; an address loses its credentials."""
    recorder = make_recorder(stream_key="email")
    for email in ("ada@example.org", "bob@example.org"):
        with recorder.frame(email=email):
            pass
    recorder.trigger("look")
    other = make_recorder()
    with other.frame(camera="rtsp://root:sesame@10.0.0.7/stream"):
        pass
    other.trigger("look")
    assert recorder.flush(timeout=120) and other.flush(timeout=120)
    first, second = bundles()
    assert first.manifest.incident.stream.startswith("p_")
    assert not places_of(["bob@example.org"], everything_in(first))
    assert second.manifest.incident.stream == "rtsp://[removed]@10.0.0.7/stream"
    assert not places_of(["sesame"], everything_in(second))


def test_a_bundle_without_its_inputs_cannot_be_replayed_and_says_why(
    make_recorder: Make, bundles: Bundles, tmp_path: Path
) -> None:
    """Exit code 3, with the reason and the remedy."""
    recorder = make_recorder(privacy=PrivacyPolicy(levels=REDACTED, redactors={"image": Redactor.fill()}))
    seal(recorder, echo(), scene())
    [bundle] = (tmp_path / "incidents").glob("*.zst")
    done = CliRunner().invoke(cli, ["run", str(bundle)])
    assert done.exit_code == 3, done.output
    assert "removed for privacy" in done.output
    shown = CliRunner().invoke(cli, ["show", str(bundle)])
    assert "Removed for privacy" in shown.stdout and "model_output (from image)" in shown.stdout


def test_the_key_is_nowhere(make_recorder: Make, key_file: Path) -> None:
    """Not in the sealer's arguments or settings, not in a ring, a status file or a repr."""
    recorder = make_recorder(privacy_key=key_file, privacy={"levels": {"metadata.operator": "redacted"}})
    with recorder.frame(operator="ada"):
        pass
    recorder.trigger("look")
    assert recorder.flush(timeout=120)
    secret = key_file.read_text().strip()
    files = b"".join(path.read_bytes() for path in key_file.parent.rglob("ring-0/*") if path.is_file())
    assert not places_of([secret, secret.encode().hex()], files)
    assert secret not in repr(recorder._settings) and secret not in recorder._settings.sealer.to_json()
    assert secret not in repr(PrivacyKey(secret.encode()))


def test_a_pipeline_is_not_given_a_redacted_image(make_recorder: Make, bundles: Bundles, tmp_path: Path) -> None:
    """It would see another picture than the service did, and what it answers would accuse the wrong part."""
    policy = PrivacyPolicy(levels={**REDACTED, "model_input": "full"}, redactors={"image": Redactor.fill()})
    recorder = make_recorder(privacy=policy)
    seal(recorder, echo(), scene())
    [bundle] = (tmp_path / "incidents").glob("*.zst")
    done = CliRunner().invoke(cli, ["run", str(bundle), "--pipeline", "tests.privacy.faces:faces"])
    assert done.exit_code == 3, done.output
    assert "redacted for privacy" in done.output
