"""The member's bytes: a round trip, a second reader from the specification, and hostile ones."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import struct
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle import Bundle, BundleInvalid, BundleWriter
from recorder.bundle.check import check_manifest
from recorder.bundle.manifest import Track, TrackLevel, TrackSignal, TrackThumbnail
from recorder.bundle.track import TrackTable, decode, encode
from tests.bundle.forge import Forgery
from tests.bundles import small_bundle
from tests.track.footage import grey

INT64 = st.integers(-(2**62), 2**62)


def track_of(*tables: TrackTable, signals: tuple[str, ...] = ("light",)) -> Track:
    named = tuple(TrackSignal(name=name, unit="") for name in signals)
    return Track(member="records/0.msgpack", signals=named, levels=tuple(table.level for table in tables))


def frames(rows: int = 3, **columns: Any) -> TrackTable:
    plain: dict[str, Any] = {
        "time_ns": range(rows), "monotonic_ns": range(rows), "frame": range(rows), "status": [0] * rows,
        "digest": [2**64 - 1] * rows, "top_class": [-1] * rows, "light": [0.5] * rows,
    }  # fmt: skip
    level = TrackLevel(stream="a", seconds=0, rows=rows, from_ns=0, to_ns=rows)
    return TrackTable(level, {**plain, **columns})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(INT64, st.floats(width=32)), max_size=20))
def test_what_is_encoded_is_decoded(rows: list[tuple[int, float]]) -> None:
    table = frames(len(rows), time_ns=[each for each, _ in rows], light=[each for _, each in rows])
    [found] = decode(encode([table]), track_of(table))
    for name in table.columns:
        expected, got = list(table.columns[name]), list(found.columns.get(name, [math.nan] * len(rows)))
        assert np.array_equal(expected, got, equal_nan=name == "light")


def test_columns_of_a_newer_version_are_passed_over() -> None:
    table = frames()
    data = msgpack.unpackb(encode([table]))
    data["tables"][0]["columns"]["from_the_future"] = b"?"
    data["more"] = 1
    [found] = decode(msgpack.packb(data), track_of(table))
    assert set(found.columns) == set(table.columns)


def test_a_second_reader_needs_the_specification_alone(film: Any, seal: Any) -> None:
    """Written from schemas/FORMAT.md, section 6, without our code."""
    footage = film()
    footage.play(np.arange(0.0, 130.0, 1.0), lambda seconds: grey(seconds / 200))
    with seal(footage.incident()) as bundle:
        content = msgpack.unpackb(bundle.read(bundle.manifest.track.member))
        ours = bundle.track()
    assert content["version"] == 1
    for entry, table in zip(content["tables"], ours, strict=True):
        rows = entry["rows"]
        forms = {"status": "B", "digest": "Q", "top_class": "i", "frames": "I", "raised": "I"}
        for name, data in entry["columns"].items():
            if name in ("time_ns", "monotonic_ns", "frame", "first_frame"):
                numbers = np.cumsum(np.frombuffer(data, "<i8")).tolist()
            else:
                form = forms.get(name) or ("I" if name.endswith(".count") else "f")
                numbers = list(struct.unpack(f"<{rows}{form}", data))
            assert np.array_equal(numbers, list(table.columns[name]), equal_nan=True), name


def mutations() -> list[tuple[str, Any]]:
    """Members that are not what the manifest says."""
    good = msgpack.unpackb(encode([frames()]))

    def changed(**parts: Any) -> bytes:
        data = msgpack.unpackb(encode([frames()]))
        data["tables"][0].update(parts)
        return msgpack.packb(data)  # type: ignore[no-any-return]

    columns = good["tables"][0]["columns"]
    twice = b"\x82\xa7version\x01\xa7version\x01"
    deep = b"\x91" * 100_000 + b"\xc0"
    return [
        ("empty", b""),
        ("noise", b"\xc1" * 50),
        ("a list", msgpack.packb([])),
        ("no version", msgpack.packb({"tables": []})),
        ("another version", msgpack.packb({**good, "version": 2})),
        ("no tables", msgpack.packb({**good, "tables": []})),
        ("tables of another kind", msgpack.packb({**good, "tables": {"0": 1}})),
        ("a table that is none", msgpack.packb({**good, "tables": [None]})),
        ("another stream", changed(stream="b")),
        ("another length", changed(rows=4)),
        ("a missing column", changed(columns={k: v for k, v in columns.items() if k != "frame"})),
        ("a short column", changed(columns={**columns, "frame": b"1234567"})),
        ("a column of another type", changed(columns={**columns, "light": [0.5] * 3})),
        ("numbers beyond 64 bits", changed(columns={**columns, "frame": struct.pack("<3q", *[2**63 - 1] * 3)})),
        ("a key twice", twice),
        ("a key that is no string", msgpack.packb({1: 2})),
        ("an extension", msgpack.packb({"version": msgpack.ExtType(5, b"x"), "tables": []})),
        ("a time stamp", msgpack.packb({"version": msgpack.Timestamp(1), "tables": []})),
        ("nested too deep", deep),
        ("a forged length", b"\x81\xa7version\xdd\xff\xff\xff\xff"),
        ("trailing bytes", encode([frames()]) + b"\x00"),
        ("truncated", encode([frames()])[:-3]),
    ]


@pytest.mark.parametrize("data", [data for _, data in mutations()], ids=[name for name, _ in mutations()])
def test_a_member_that_is_not_what_the_manifest_says_is_refused(data: bytes) -> None:
    with pytest.raises(BundleInvalid):
        decode(data, track_of(frames()))


def test_a_flood_of_random_bytes_gives_a_clean_error() -> None:
    random = np.random.default_rng(0)
    good = encode([frames()])
    for _ in range(2_000):
        data = bytearray(good)
        for at in random.integers(0, len(good), 3):
            data[at] = random.integers(0, 256)
        with contextlib.suppress(BundleInvalid):
            decode(bytes(data), track_of(frames()))


def test_a_manifest_whose_track_contradicts_it_is_refused(bundle_bytes: bytes) -> None:
    with Bundle.open(bundle_bytes) as bundle:
        manifest = bundle.manifest
    level = frames().level
    thumbnail = TrackThumbnail(member="thumbnails/ff.jpg", stream="a", frame=1, time_ns=0)
    for track, words in (
        (track_of(frames()), "not in the bundle"),
        (dataclasses.replace(track_of(), member=manifest.members[-1].path), "not in the bundle"),
        (dataclasses.replace(track_of(), thumbnails=(thumbnail,)), "not in the bundle"),
    ):
        with pytest.raises(BundleInvalid, match=words):
            check_manifest(dataclasses.replace(manifest, track=track))
    member = dataclasses.replace(
        manifest.members[-1],
        path="records/0.msgpack",
        first_frame=manifest.members[-1].first_frame + manifest.members[-1].frame_count,
        frame_count=1,
    )
    members = (*manifest.members, member)
    check_manifest(dataclasses.replace(manifest, members=members, track=track_of()))
    for track, words in (
        (dataclasses.replace(track_of(), thumbnails=(thumbnail,)), "thumbnail"),
        (track_of(signals=("a", "a")), "twice"),
        (dataclasses.replace(track_of(), levels=(level, level)), "twice"),
    ):
        with pytest.raises(BundleInvalid, match=words):
            check_manifest(dataclasses.replace(manifest, members=members, track=track))
    huge = dataclasses.replace(member, size_bytes=33 * 2**20)
    with pytest.raises(BundleInvalid, match="more than"):
        check_manifest(dataclasses.replace(manifest, members=(*manifest.members, huge), track=track_of()))


def test_verify_reads_the_tables(tmp_path: Any) -> None:
    with Bundle.open(small_bundle(tmp_path / "a.zst")) as bundle:
        manifest = bundle.manifest
    empty = dataclasses.replace(manifest, frames=(), calls=(), members=())
    table = frames()
    for data, problems in ((encode([table]), 0), (encode([frames(2)]), 1)):
        with BundleWriter(tmp_path) as writer:
            writer.add("records/0.msgpack", data, len(data))
            writer.finish(tmp_path / "b.zst", dataclasses.replace(empty, track=track_of(table)))
        with Bundle.open(tmp_path / "b.zst") as bundle:
            assert len(bundle.verify()) == problems


@pytest.fixture(scope="module")
def bundle_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A bundle without a track."""
    return small_bundle(tmp_path_factory.mktemp("bundle") / "a.zst").read_bytes()


def test_the_schema_knows_the_track(bundle_bytes: bytes) -> None:
    """What it says of a member's path, and of a signal's name, is checked when a bundle is opened."""
    for track in (
        {"member": "tensors/0.bin", "signals": [], "levels": []},
        {"member": "records/0.msgpack", "signals": [{"name": "A b", "unit": ""}], "levels": []},
        {"member": "records/0.msgpack", "signals": [], "levels": [{"stream": "a"}]},
        {"member": "records/0.msgpack", "signals": []},
    ):
        forgery = Forgery.of(bundle_bytes)
        forgery.manifest["track"] = track
        with pytest.raises(BundleInvalid, match="schema"):
            Bundle.open(forgery.build())


def test_salvage_keeps_what_is_whole_of_the_track(tmp_path: Any) -> None:
    from recorder.bundle.salvage import salvage
    from tests.golden.regenerate import FOLDER, TRACK

    data = (FOLDER / f"{TRACK}.zst").read_bytes()
    salvage(data[: len(data) - 50], tmp_path / "all.zst")
    with Bundle.open(data) as whole, Bundle.open(tmp_path / "all.zst") as kept:
        assert kept.manifest.track == whole.manifest.track
        assert [dict(each.columns) for each in kept.track()][1:] == [dict(each.columns) for each in whole.track()][1:]
        members = {member.path: member for member in whole.manifest.members}
        frame = members["records/0.msgpack"].first_frame
        start = whole._table.offsets[frame]
        thumbnail = whole._table.offsets[members["thumbnails/00003d.jpg"].first_frame]
    for place, lost in ((start, {"salvage:record": 1}), (thumbnail, {"salvage:thumbnail": 1})):
        broken = bytearray(data)
        broken[place + 20] ^= 0xFF
        found = salvage(bytes(broken), tmp_path / "part.zst")
        assert found.lost == lost
        with Bundle.open(tmp_path / "part.zst") as kept:
            assert (kept.manifest.track is None) == ("salvage:record" in lost)
            assert kept.verify() == []
