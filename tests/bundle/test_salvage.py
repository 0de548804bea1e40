"""What is left of a damaged bundle is worth having: intact members survive, the rest is counted."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from recorder.bundle import Bundle, BundleInvalid, archive
from recorder.bundle.check import tensors_in
from recorder.bundle.manifest import Parent
from recorder.bundle.salvage import Salvaged, salvage
from recorder.bundle.values import OpaqueValue
from tests.bundles import small_bundle


def offsets_of(data: bytes) -> tuple[int, ...]:
    """Where each frame begins, and the seek table."""
    length = struct.unpack_from("<I", data, len(data) - 9)[0] * 8 + 17
    return archive.parse_seek_table(data[-length:], len(data)).offsets


def salvaged(data: bytes, directory: Path) -> tuple[Salvaged, Bundle]:
    """Salvage and open; the result is sound and says where it comes from."""
    path = directory / "salvaged.zst"
    report = salvage(data, path)
    bundle = Bundle.open(path.read_bytes())
    assert bundle.verify() == []
    assert bundle.id == report.id
    assert not bundle.manifest.complete
    assert bundle.manifest.parent == Parent(bundle=report.parent, operation="recover")
    return report, bundle


def check_against(original: Bundle, report: Salvaged, bundle: Bundle) -> None:
    """Every member kept is the same, every member lost is counted, and no frame or call is missing."""
    old, new = original.manifest, bundle.manifest
    paths = {member.path for member in new.members}
    assert paths.isdisjoint(report.members_lost)
    for path in paths:
        assert bundle.read(path) == original.read(path)
    assert [frame.id for frame in new.frames] == [frame.id for frame in old.frames]
    assert [call.id for call in new.calls] == [call.id for call in old.calls]
    images = sum(len(f.images) for f in old.frames) - sum(len(f.images) for f in new.frames)
    tensors = len(list(tensors_in(old))) - len(list(tensors_in(new)))
    assert report.lost.get("salvage:image", 0) == images
    assert report.lost.get("salvage:tensor", 0) == tensors
    for reason, count in report.lost.items():
        assert new.incident.lost[reason] == count


def test_every_frame_boundary_and_places_within_frames(bundle_bytes: bytes, tmp_path: Path) -> None:
    """The longer the rest, the more members; none is lost that was whole."""
    offsets = offsets_of(bundle_bytes)
    within = [place + delta for place in offsets[2:-1] for delta in (1, 8, 40)]
    with Bundle.open(bundle_bytes) as original:
        listed = original.manifest.members
        for cut in sorted({*offsets[2:], *within, len(bundle_bytes) - 1}):
            report, bundle = salvaged(bundle_bytes[:cut], tmp_path)
            whole = [m.path for m in listed if offsets[m.first_frame + m.frame_count] <= cut]
            assert report.members_kept == len(whole)
            assert report.members_lost == tuple(m.path for m in listed if m.path not in whole)
            check_against(original, report, bundle)


def test_without_its_manifest_a_bundle_is_refused(bundle_bytes: bytes, tmp_path: Path) -> None:
    """Nothing says what the rest means; no file is left behind."""
    damaged = bytearray(bundle_bytes)
    damaged[archive.HEADER_BYTES + 300] ^= 1
    start = offsets_of(bundle_bytes)[2]
    for data in (bytes(damaged), bundle_bytes[: start - 1], bundle_bytes[:60], bundle_bytes[:20], b""):
        with pytest.raises(BundleInvalid):
            salvage(data, tmp_path / "salvaged.zst")
        assert list(tmp_path.iterdir()) == []


def test_flipped_bytes_cost_only_their_member(bundle_bytes: bytes, tmp_path: Path) -> None:
    """In the magic, the frame's header, a block's header, the content and the checksum."""
    offsets = offsets_of(bundle_bytes)
    with Bundle.open(bundle_bytes) as original:
        for index in (2, 6, len(offsets) - 4):
            for place in (0, 4, 5, 9, 10, 11, 30, offsets[index + 1] - offsets[index] - 1):
                data = bytearray(bundle_bytes)
                data[offsets[index] + place] ^= 0xFF
                report, bundle = salvaged(bytes(data), tmp_path)
                assert report.members_lost == (original.manifest.members[index - 2].path,)
                check_against(original, report, bundle)


def test_bytes_cut_out_of_the_middle_cost_only_what_they_touch(bundle_bytes: bytes, tmp_path: Path) -> None:
    """The next frame is found by its magic number."""
    offsets = offsets_of(bundle_bytes)
    data = bundle_bytes[: offsets[5] + 20] + bundle_bytes[offsets[8] - 7 :]
    with Bundle.open(bundle_bytes) as original:
        report, bundle = salvaged(data, tmp_path)
        assert report.members_lost == tuple(m.path for m in original.manifest.members[3:6])
        check_against(original, report, bundle)


def test_lost_tensors_become_opaque_and_are_counted_for_their_frames(bundle_bytes: bytes, tmp_path: Path) -> None:
    """The structure of arguments stays."""
    with Bundle.open(bundle_bytes) as original:
        member = original.manifest.calls[1].args.items[0].member  # type: ignore[union-attr]
        first = next(m for m in original.manifest.members if m.path == member).first_frame
    data = bytearray(bundle_bytes)
    data[offsets_of(bundle_bytes)[first] + 50] ^= 1
    report, bundle = salvaged(bytes(data), tmp_path)
    assert report.lost == {"salvage:tensor": 1}
    assert bundle.manifest.calls[1].args.items == (OpaqueValue(type="torch.Tensor"),)
    assert [frame.lost for frame in bundle.manifest.frames] == [{}, {"salvage:tensor": 1}, {}, {}]


def test_a_member_of_several_frames_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """Damage in its second frame loses all of it and nothing else."""
    data = small_bundle(tmp_path / "large.zst", frames=2, height=1200, width=1600).read_bytes()
    offsets = offsets_of(data)
    with Bundle.open(data) as original:
        image = next(m for m in original.manifest.members if m.frame_count > 1)
        report, bundle = salvaged(data[:-5], tmp_path)
        assert report.members_lost == ()
        assert np.array_equal(
            bundle.pixels(bundle.manifest.frames[0].images[0]), original.pixels(original.manifest.frames[0].images[0])
        )
        flipped = bytearray(data)
        flipped[offsets[image.first_frame + 1] + 3000] ^= 1
        report, bundle = salvaged(bytes(flipped), tmp_path)
        assert report.members_lost == (image.path,)
        without_one = data[: offsets[image.first_frame + 1]] + data[offsets[image.first_frame + 2] :]
        report, bundle = salvaged(without_one, tmp_path)
        assert report.members_lost == (image.path,)


def test_the_same_damage_gives_the_same_bundle(bundle_bytes: bytes, tmp_path: Path) -> None:
    """No clock and no chance; a salvage of a salvage names the first salvage."""
    cut = bundle_bytes[: offsets_of(bundle_bytes)[9] + 3]
    first, second = tmp_path / "1.zst", tmp_path / "2.zst"
    report = salvage(cut, first)
    assert salvage(cut, second) == report
    assert first.read_bytes() == second.read_bytes()
    again = salvage(first.read_bytes()[:-1], second)
    assert again.parent == report.id
    assert again.lost == {}
