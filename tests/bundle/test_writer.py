"""The writer leaves a whole bundle or nothing, and only what the manifest names."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.bundle import Bundle, BundleInvalid, BundleWriter, archive
from recorder.bundle.limits import MIB
from recorder.bundle.manifest import Manifest
from recorder.bundle.values import TensorValue
from tests.bundle.forge import Forgery
from tests.bundles import picture, small_bundle, store_array


@pytest.fixture
def manifest(bundle_bytes: bytes) -> Manifest:
    """A manifest without frames and calls."""
    with Bundle.open(bundle_bytes) as bundle:
        return replace(bundle.manifest, frames=(), calls=(), members=())


def test_the_id_is_the_digest_of_the_manifest(tmp_path: Path, manifest: Manifest) -> None:
    """What `finish` returns is what a reader finds."""
    with BundleWriter(tmp_path) as writer:
        name = writer.finish(tmp_path / "a.zst", manifest)
    with Bundle.open(tmp_path / "a.zst") as bundle:
        assert bundle.id == name
        assert bundle.manifest == manifest


def test_members_nobody_names_are_left_out(tmp_path: Path, manifest: Manifest, bundle_bytes: bytes) -> None:
    """Thinning a window happens in the manifest; files added on purpose stay, whole and streamed."""
    random = np.random.default_rng(0)
    weights = random.bytes(9 * MIB + 3)
    digest = hashlib.sha256(weights).hexdigest()
    with Bundle.open(bundle_bytes) as bundle:
        frame = replace(bundle.manifest.frames[0], calls=(), images=())
    with BundleWriter(tmp_path) as writer:
        kept = writer.image(1, "image", picture(random, 20, 20))
        dropped = writer.image(2, "image", picture(random, 20, 20))
        store_array(writer, np.zeros(4, np.float32))
        parts = (weights[start : start + MIB] for start in range(0, len(weights), MIB))
        assert writer.add(f"models/{digest}.safetensors", parts, len(weights)) == digest
        writer.finish(tmp_path / "a.zst", replace(manifest, frames=(replace(frame, images=(kept,)),)))
    with Bundle.open(tmp_path / "a.zst") as bundle:
        listed = [member.path for member in bundle.manifest.members]
        assert listed == [kept.thumbnail, kept.member, f"models/{digest}.safetensors"]
        assert dropped.member not in listed
        assert b"".join(bundle.stream(listed[-1])) == weights
        assert max(len(part) for part in bundle.stream(listed[-1])) <= 4 * MIB


@pytest.mark.parametrize("path", ["../x.json", "models/conftest.py", "images/0.gif", "manifest.json"])
def test_a_member_outside_the_grammar_is_refused(tmp_path: Path, path: str) -> None:
    """Whoever calls: the reader would refuse it."""
    with BundleWriter(tmp_path) as writer, pytest.raises(ValueError, match="not a path"):
        writer.add(path, b"x", 1)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_member_of_another_size_than_stated_is_refused(tmp_path: Path, size: int) -> None:
    """The tar header comes before the content."""
    with BundleWriter(tmp_path) as writer, pytest.raises(ValueError, match="bytes, not"):
        writer.add("records/0.json", [b"x", b"y"], size)


def test_a_manifest_the_reader_would_refuse_is_not_written(tmp_path: Path, manifest: Manifest) -> None:
    """A dangling reference is found before anything is on disk under the bundle's name."""
    with BundleWriter(tmp_path) as writer, pytest.raises(BundleInvalid, match="minItems"):
        broken = replace(manifest, incident=replace(manifest.incident, triggers=()))
        writer.finish(tmp_path / "a.zst", broken)
    assert list(tmp_path.iterdir()) == []


def test_a_trigger_value_that_is_no_number_does_not_cost_the_incident(tmp_path: Path, manifest: Manifest) -> None:
    """NaN becomes null, a surrogate becomes ?, an integer without bound becomes a string."""
    trigger = replace(manifest.incident.triggers[0], value=float("nan"), reason="path \udc80", parameters={"n": 10**30})
    with BundleWriter(tmp_path) as writer:
        writer.finish(tmp_path / "a.zst", replace(manifest, incident=replace(manifest.incident, triggers=(trigger,))))
    with Bundle.open(tmp_path / "a.zst") as bundle:
        [read] = bundle.manifest.incident.triggers
        assert (read.value, read.reason, read.parameters) == (None, "path ?", {"n": "1" + "0" * 30})


def test_a_failing_disk_leaves_nothing_behind(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the bundle nor its temporary name; an older file of that name stays as it was."""
    target = tmp_path / "a.zst"
    target.write_bytes(b"older")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with BundleWriter(tmp_path) as writer, pytest.raises(OSError, match="No space"):
        writer.finish(target, manifest)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.zst", b"older")]


def test_the_scratch_file_has_no_name(tmp_path: Path) -> None:
    """A killed writer leaves nothing to clean up."""
    with BundleWriter(tmp_path) as writer:
        store_array(writer, np.arange(100_000, dtype=np.float32))
        assert list(tmp_path.iterdir()) == []


def test_small_tensors_fill_shared_members_and_come_back(tmp_path: Path, manifest: Manifest) -> None:
    """Hundreds of small outputs take a few members; each is read by its offset."""
    from recorder.bundle.values import SequenceValue

    random = np.random.default_rng(0)
    arrays = [random.normal(size=(1, 500)).astype(np.float32) for _ in range(300)]
    with Bundle.open(small_bundle(tmp_path / "b.zst", frames=1)) as other:
        call = replace(other.manifest.calls[0], args=SequenceValue(form="tuple", items=()))
    with BundleWriter(tmp_path) as writer:
        stored = tuple(store_array(writer, array) for array in arrays)
        call = replace(call, output=SequenceValue(form="list", items=stored))
        writer.finish(tmp_path / "a.zst", replace(manifest, calls=(call,)))
    with Bundle.open(tmp_path / "a.zst") as bundle:
        assert len(bundle.manifest.members) == 3
        output: Any = bundle.manifest.calls[0].output
        for value, array in zip(output.items, arrays, strict=True):
            assert isinstance(value, TensorValue)
            assert np.array_equal(bundle.array(value), array)


def test_the_header_is_laid_out_as_specified(bundle_bytes: bytes) -> None:
    """Golden offsets of schemas/FORMAT.md: a reader of ten years from now depends on them."""
    size = int.from_bytes(bundle_bytes[24:28], "little")
    assert archive.HEADER_BYTES == 60
    assert bundle_bytes[:8] == bytes.fromhex("502a4d18 34000000")
    assert bundle_bytes[8:16] == b"\x89VFR\r\n\x1a\n"
    assert bundle_bytes[16:20] == b"\x01\0\0\0"
    assert bundle_bytes[60:64] == bytes.fromhex("28b52ffd")
    assert bundle_bytes[-4:] == bytes.fromhex("b1ea928f")
    assert bundle_bytes[-5] == 0
    with Bundle.open(bundle_bytes) as bundle:
        assert bundle_bytes[28:60].hex() == bundle.id
    assert size > 1000
    assert Forgery.of(bundle_bytes).manifest["format"] == "vision-flight-recorder"
