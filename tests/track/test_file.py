"""The track's file: what is written is read, what is damaged is passed over, what is hostile is refused."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

import numpy as np
import pytest

from recorder.track import TRACK_SIGNALS, Row, TrackInvalid, TrackReader, TrackUnavailable, TrackWriter
from recorder.track.layout import HEADER_BYTES, MIN_TRACK_BYTES, pack_header, plan, seal_slot
from recorder.track.sealed import load_track

OWNER = "boot 1 2"


def row(number: int, *, stream: str = "a", seconds: float | None = None) -> Row:
    """A frame a second."""
    moment = int((number if seconds is None else seconds) * 1e9)
    values = np.full(len(TRACK_SIGNALS), number, np.float32)
    return Row(number, stream, 10**18 + moment, moment, 0, number, -1, values)


def written(path: Path, rows: int, size_bytes: int = MIN_TRACK_BYTES) -> Path:
    """A track of so many frames."""
    writer = TrackWriter(path, size_bytes, OWNER, 3600.0)
    for number in range(1, rows + 1):
        writer.add(row(number))
        writer.add_thumbnail(row(number), b"\xff\xd8\xff" + bytes([number % 256]) * 100)
    writer.close()
    return path


def test_rows_intervals_and_thumbnails_are_read_as_written(tmp_path: Path) -> None:
    with TrackReader(written(tmp_path / "t", 25)) as reader:
        view = reader.load()
    assert view.rows["frame"].tolist() == list(range(1, 26))
    assert view.rows["values"][4].tolist() == [5.0] * len(TRACK_SIGNALS)
    assert view.intervals[0]["frames"].tolist() == [1] * 24
    assert [each["mean"][0] for each in view.intervals[1]] == [5.0, 14.5]
    assert view.streams == {0: "a"}
    assert view.files[-1] == b"\xff\xd8\xff" + bytes([25]) * 100


def test_the_oldest_make_room_and_the_newest_are_all_there(tmp_path: Path) -> None:
    path = written(tmp_path / "t", 3_000)
    assert path.stat().st_size <= MIN_TRACK_BYTES
    with TrackReader(path) as reader:
        view = reader.load()
        slots = reader.layout.slots
    assert view.rows["frame"].tolist() == list(range(3_001 - slots[1], 3_001))
    assert len(view.intervals[0]) == slots[2] and len(view.files) == slots[-1]


def test_a_second_writer_goes_on_with_the_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "t", 7)
    writer = TrackWriter(path, MIN_TRACK_BYTES, OWNER, 3600.0)
    assert writer.last_row == 7 and writer.knows(7) and not writer.knows(8)
    for number in range(8, 15):
        writer.add(row(number))
    writer.close()
    with TrackReader(path) as reader:
        view = reader.load()
    assert view.rows["number"].tolist() == list(range(1, 15))
    assert view.intervals[1]["frames"].tolist() == [9]


@pytest.mark.parametrize("cut", ["between", "torn"])
def test_an_interval_that_was_not_written_any_more_is_made_up_for(tmp_path: Path, cut: str) -> None:
    """The sealer dies after a row and before the interval that it closes, or within it."""
    path = written(tmp_path / "t", 11)
    with TrackReader(path) as reader:
        layout = reader.layout
    # Number 1 of the ten-second intervals closed with frame 10; take it back.
    place = layout.offsets[3] + layout.slot_bytes[3]
    with path.open("r+b") as file:
        file.seek(place + (0 if cut == "between" else 100))
        file.write(bytes(layout.slot_bytes[3] - (0 if cut == "between" else 100)))
    with TrackReader(path) as reader:
        assert len(reader.load().intervals[1]) == 0
        assert reader.load().recent().intervals[1]["frames"].tolist() == [9, 2]
    TrackWriter(path, MIN_TRACK_BYTES, OWNER, 3600.0).close()
    with TrackReader(path) as reader:
        assert reader.load().intervals[1]["frames"].tolist() == [9]


def test_a_torn_row_is_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path / "t", 5)
    with TrackReader(path) as reader:
        layout = reader.layout
    with path.open("r+b") as file:
        file.seek(layout.offsets[1] + 3 * layout.slot_bytes[1] + 60)
        file.write(b"\xff" * 8)
    with TrackReader(path) as reader:
        assert reader.load().rows["frame"].tolist() == [1, 2, 4, 5]


def test_the_track_of_another_recording_is_replaced_and_never_sealed(tmp_path: Path) -> None:
    path = written(tmp_path / "t", 5)
    with pytest.raises(TrackInvalid, match="another recording"):
        load_track(path, "boot 9 9", None)
    writer = TrackWriter(path, MIN_TRACK_BYTES, "boot 9 9", 3600.0)
    assert writer.last_row == 0
    writer.close()


@pytest.mark.parametrize(
    "content",
    [b"", b"VFR-TRAK", bytes(200_000), b"VFR-TRAK" + os.urandom(8_000), b"x" * HEADER_BYTES],
    ids=["empty", "magic alone", "zeros", "noise", "letters"],
)
def test_what_is_no_track_is_refused_and_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(TrackInvalid):
        TrackReader(path)
    writer = TrackWriter(path, MIN_TRACK_BYTES, OWNER, 3600.0)
    assert writer.lost.snapshot() == {"track-replaced": 1}
    writer.close()


def test_links_pipes_and_missing_files_are_no_tracks(tmp_path: Path) -> None:
    real = written(tmp_path / "real", 1)
    (tmp_path / "link").symlink_to(real)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TrackUnavailable):
        TrackReader(tmp_path / "link")
    with pytest.raises(TrackInvalid, match="ordinary"):
        TrackReader(tmp_path / "pipe")
    with pytest.raises(TrackUnavailable):
        TrackReader(tmp_path / "missing")


@pytest.mark.parametrize(
    "lie",
    [
        {"slots": [2**30, 1, 1, 1, 1, 1]},
        {"slots": [4, 10]},
        {"slots": [-1, 1, 1, 1, 1, 1]},
        {"slots": [4, True, 1, 1, 1, None]},
        {"signals": {}},
        {"signals": {"../x": "s"}},
        {"signals": {f"s{number}": "" for number in range(65)}},
        {"history_seconds": float("nan")},
        {"history_seconds": "long"},
        {"owner": None},
    ],
    ids=str,
)
def test_a_header_that_lies_is_refused(tmp_path: Path, lie: dict[str, object]) -> None:
    import json

    honest = {"owner": OWNER, "signals": {"a": "s"}, "slots": [4, 1, 1, 1, 1, 1], "history_seconds": 60.0}
    text = json.dumps({**honest, **lie}).encode()
    page = b"VFR-TRAK" + (1).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    page += zlib.crc32(text).to_bytes(4, "little") + text
    path = tmp_path / "t"
    path.write_bytes(page.ljust(HEADER_BYTES, b"\0") + bytes(100_000))
    with pytest.raises(TrackInvalid):
        TrackReader(path)


def test_a_truncated_file_is_refused_even_when_it_is_cut_under_the_reader(tmp_path: Path) -> None:
    path = written(tmp_path / "t", 5)
    with TrackReader(path) as reader:
        os.truncate(path, 20_000)
        with pytest.raises(TrackInvalid, match="truncated"):
            reader.load()
    with pytest.raises(TrackInvalid, match="another size"):
        TrackReader(path)


def test_slots_with_forged_contents_and_right_checksums_do_no_harm(tmp_path: Path) -> None:
    """Five hundred files of random slots: numbers, times, streams and lengths that cannot be."""
    dice = random.Random(0)
    path = tmp_path / "t"
    layout = plan(MIN_TRACK_BYTES, OWNER, TRACK_SIGNALS, 3600.0)
    honest = written(tmp_path / "honest", 30).read_bytes()
    for _ in range(150):
        data = bytearray(honest)
        for region, (slots, size) in enumerate(zip(layout.slots, layout.slot_bytes, strict=True)):
            for _ in range(min(4, slots)):
                place = layout.offsets[region] + dice.randrange(slots) * size
                slot = bytearray(data[place : place + size])
                for _ in range(dice.randrange(1, 4)):
                    at = dice.randrange(4, min(size, 400) - 8, 4)
                    slot[at : at + 8] = dice.choice([b"\xff" * 8, b"\0" * 7 + b"\x7f", dice.randbytes(8), bytes(8)])
                data[place : place + size] = seal_slot(bytes(slot))
        path.write_bytes(data)
        with TrackReader(path) as reader:
            view = reader.load()
            view.recent()
            view.until(dice.randrange(40)).recent()
        writer = TrackWriter(path, MIN_TRACK_BYTES, OWNER, 3600.0)
        writer.add(row(31))
        writer.close()


def test_the_header_page_is_all_that_names_the_geometry(tmp_path: Path) -> None:
    layout = plan(MIN_TRACK_BYTES, OWNER, TRACK_SIGNALS, 3600.0)
    assert layout.row_type.itemsize == layout.slot_bytes[1] == 152
    assert layout.interval_type.itemsize == layout.slot_bytes[2]
    assert len(pack_header(layout)) == HEADER_BYTES
    with pytest.raises(ValueError, match="takes"):
        plan(MIN_TRACK_BYTES - 1, OWNER, TRACK_SIGNALS, 3600.0)
