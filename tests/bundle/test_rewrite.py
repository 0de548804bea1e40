"""A bundle made from another holds what was kept, nothing of what was dropped, and says where it comes from."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard

from recorder.bundle import Bundle, BundleError, BundleInvalid, BundleWriter, Manifest
from recorder.bundle.check import paths_named, tensors_in
from recorder.bundle.custody import custody, descended
from recorder.bundle.limits import MAX_ANCESTORS
from recorder.bundle.manifest import Graph, Parent
from recorder.bundle.rewrite import map_manifest_tensors, rewrite, subset
from recorder.bundle.values import OpaqueValue, SequenceValue, TensorValue, Value
from tests.bundle.test_salvage import offsets_of
from tests.bundles import small_bundle, store_array
from tests.golden.regenerate import FOLDER


def raw_content(data: bytes) -> bytes:
    """Every byte of a bundle, decompressed: what anyone could find in it."""
    offsets = offsets_of(data)
    frames = [data[begin:end] for begin, end in itertools.pairwise(offsets)]
    return b"".join(zstandard.decompress(f) if f[:4] == b"\x28\xb5\x2f\xfd" else f for f in frames)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.zst")), ids=lambda path: path.stem)
def test_without_a_change_everything_is_kept(path: Path, tmp_path: Path) -> None:
    """Of every golden bundle: the same members, but those nothing refers to, and the same manifest but the parent."""
    with Bundle.open(path) as source:
        bundle_id = rewrite(source, tmp_path / "new.zst", operation="pack")
        with Bundle.open(tmp_path / "new.zst") as new:
            assert new.id == bundle_id
            assert new.verify() == []
            named = paths_named(source.manifest)
            assert [m.sha256 for m in new.manifest.members] == [
                m.sha256 for m in source.manifest.members if m.path in named or m.path.startswith("models/")
            ]
            chain = (Parent(bundle=source.id, operation="pack"), *custody(source.manifest))
            assert custody(new.manifest) == chain
            bare = {"parent": None, "ancestors": (), "members": ()}
            assert replace(new.manifest, **bare) == replace(source.manifest, **bare)  # type: ignore[arg-type]
            for member in new.manifest.members:
                assert new.read(member.path) == source.read(member.path)


def test_the_chain_of_custody_goes_on_and_is_bounded(bundle_bytes: bytes, tmp_path: Path) -> None:
    """Each bundle names its parent and what that one was made from; equal steps give equal bytes."""
    one, two, again = (tmp_path / name for name in ("1.zst", "2.zst", "3.zst"))
    with Bundle.open(bundle_bytes) as source:
        first = rewrite(source, one, operation="minimize", frames={2, 3})
    with Bundle.open(one) as middle:
        rewrite(middle, two, operation="redact")
        rewrite(middle, again, operation="redact")
    assert two.read_bytes() == again.read_bytes()
    with Bundle.open(two) as last:
        assert custody(last.manifest) == (
            Parent(bundle=first, operation="redact"),
            Parent(bundle=source.id, operation="minimize"),
        )
        long = replace(last.manifest, ancestors=last.manifest.ancestors * MAX_ANCESTORS)
        with pytest.raises(BundleError, match="begin again"):
            descended(long, first, "redact")


def test_some_frames_with_their_calls_and_nothing_of_the_others(bundle_bytes: bytes, tmp_path: Path) -> None:
    """Logits share a member: what is left of it is stored anew, and the dropped frames' bytes are nowhere."""
    out = tmp_path / "new.zst"
    with Bundle.open(bundle_bytes) as source:
        rewrite(source, out, operation="minimize", frames=[3])
        dropped = [call.output for call in source.manifest.calls if call.frames != (3,)]
        gone = [source.tensor_bytes(tensor) for tensor in dropped if isinstance(tensor, TensorValue)]
        gone += [source.read(frame.images[0].member)[60:] for frame in source.manifest.frames if frame.id != 3]
        content = raw_content(out.read_bytes())
        assert len(gone) == 6
        assert not [data for data in gone if data in content]
        with Bundle.open(out) as new:
            assert new.verify() == []
            assert [frame.id for frame in new.manifest.frames] == [3]
            [call] = new.manifest.calls
            [old] = [call for call in source.manifest.calls if call.frames == (3,)]
            assert isinstance(call.output, TensorValue)
            assert isinstance(old.output, TensorValue)
            assert new.tensor_bytes(call.output) == source.tensor_bytes(old.output)


def test_a_frame_that_is_not_there_is_refused(bundle_bytes: bytes, tmp_path: Path) -> None:
    """Before anything is written."""
    with Bundle.open(bundle_bytes) as source, pytest.raises(ValueError, match="no frame 9"):
        rewrite(source, tmp_path / "new.zst", operation="minimize", frames=[1, 9])
    assert list(tmp_path.iterdir()) == []


def test_a_batch_stays_whole_for_the_frame_that_is_kept(tmp_path: Path) -> None:
    """The model was given all of it; the contexts and models of the rest go."""
    with Bundle.open(FOLDER / "1.0-batch.zst") as source:
        kept = subset(source.manifest, [2])
        assert [call.id for call in kept.calls] == [7, 8]
        assert kept.calls[0].frames == (1, 2, 3, 4)
        assert subset(source.manifest, []).models == ()
        rewrite(source, tmp_path / "new.zst", operation="minimize", frames=[2])
    with Bundle.open(tmp_path / "new.zst") as new:
        assert new.verify() == []


def test_tensors_and_images_can_be_replaced(bundle_bytes: bytes, tmp_path: Path) -> None:
    """By new ones beside those that stay; the names of members do not collide."""
    white = np.full((48, 64, 3), 255, np.uint8)
    zeros = np.zeros((1, 3, 48, 64), np.float32)

    def change(manifest: Manifest, writer: BundleWriter) -> Manifest:
        first = replace(manifest.frames[0], images=(writer.image(1, "image", white),))
        call = replace(
            manifest.calls[0], args=SequenceValue(form="tuple", items=(store_array(writer, zeros),)), output=None
        )
        return replace(manifest, frames=(first, *manifest.frames[1:]), calls=(call, *manifest.calls[1:]))

    out = tmp_path / "new.zst"
    with Bundle.open(bundle_bytes) as source:
        rewrite(source, out, operation="redact", transform=change)
        with Bundle.open(out) as new:
            assert new.verify() == []
            assert np.array_equal(new.pixels(new.manifest.frames[0].images[0]), white)
            assert not np.array_equal(source.pixels(source.manifest.frames[0].images[0]), white)
            assert np.array_equal(new.array(next(t for _, t in tensors_in(new.manifest))), zeros)
            for old, kept in zip(source.manifest.frames[1:], new.manifest.frames[1:], strict=True):
                assert np.array_equal(source.pixels(old.images[0]), new.pixels(kept.images[0]))


def test_all_tensors_can_be_dropped(tmp_path: Path) -> None:
    """Their structure stays; no tensor member remains."""

    def opaque(tensor: TensorValue) -> Value:
        return OpaqueValue(type="removed")

    with Bundle.open(FOLDER / "1.0-values.zst") as source:
        rewrite(
            source, tmp_path / "new.zst", operation="redact", transform=lambda m, _: map_manifest_tensors(m, opaque)
        )
    with Bundle.open(tmp_path / "new.zst") as new:
        assert list(tensors_in(new.manifest)) == []
        assert [member.path for member in new.manifest.members] == []


def test_models_stay_while_the_manifest_names_them(bundle_bytes: bytes, tmp_path: Path) -> None:
    """A packed bundle that is redacted is still packed."""
    graph = Graph(signature="cd" * 32, digest="ef" * 32, size_bytes=7)

    def pack(manifest: Manifest, writer: BundleWriter) -> Manifest:
        writer.add(f"models/{'ab' * 32}.safetensors", b"weights", 7)
        writer.add(f"models/{'ef' * 32}.graph.json", b"[graph]", 7)
        return replace(manifest, models=tuple(replace(model, graphs=(graph,)) for model in manifest.models))

    def unpack(manifest: Manifest, writer: BundleWriter) -> Manifest:
        return replace(manifest, models=tuple(replace(model, graphs=()) for model in manifest.models))

    packed, same, less = (tmp_path / name for name in ("1.zst", "2.zst", "3.zst"))
    with Bundle.open(bundle_bytes) as source:
        rewrite(source, packed, operation="pack", transform=pack)
    with Bundle.open(packed) as source:
        rewrite(source, same, operation="redact", frames=[1])
        rewrite(source, less, operation="redact", transform=unpack)
    for path, paths in (
        (same, ["ab" * 32 + ".safetensors", "ef" * 32 + ".graph.json"]),
        (less, ["ab" * 32 + ".safetensors"]),
    ):
        with Bundle.open(path) as new:
            found = [m.path.partition("/")[2] for m in new.manifest.members if m.path.startswith("models/")]
            assert found == paths


def test_a_damaged_source_leaves_nothing(tmp_path: Path) -> None:
    """What cannot be vouched for is not copied."""
    data = bytearray(small_bundle(tmp_path / "whole.zst").read_bytes())
    data[offsets_of(bytes(data))[5] + 40] ^= 1
    (tmp_path / "whole.zst").unlink()
    with Bundle.open(bytes(data)) as source, pytest.raises(BundleInvalid):
        rewrite(source, tmp_path / "new.zst", operation="pack")
    assert list(tmp_path.iterdir()) == []
