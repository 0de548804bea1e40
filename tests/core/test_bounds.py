"""The hard bound holds for everything beside each other; streams keep their shares; what is too large is described."""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.lanes import Lanes
from recorder.retention import Retention
from recorder.ring import CONTEXTS, EVENTS, FRAMES, FrameScan, RingIdentity, RingReader, RingWriter
from recorder.settings import SealerSettings
from recorder.status import MAX_FILE_BYTES, StatusReader, StatusWriter

MakeRecorder = Callable[..., FlightRecorder]


def bytes_in(directory: Path) -> int:
    """Disk usage of everything in a directory, and of the nameless spools that sealers hold open in it."""
    found: dict[int, int] = {}
    opened = (path for path in Path("/proc").glob("[0-9]*/fd/*") if _was_in(path, directory))
    for path in (*directory.rglob("*"), *opened):
        try:
            status = path.stat()
        except OSError:
            continue
        found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _was_in(descriptor: Path, directory: Path) -> bool:
    try:
        name = str(descriptor.readlink())
    except OSError:
        return False
    return name.startswith(str(directory)) and name.endswith("(deleted)")


def test_ring_spools_and_status_together_never_exceed_the_bound(make_recorder: MakeRecorder, tmp_path: Path) -> None:
    bound = 8 * 2**20
    recorder = make_recorder(max_bytes=bound, pre_frames=8, post_frames=8, post_seconds=0.2)
    largest = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            largest.append(bytes_in(tmp_path / "ring-0"))
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        chance = np.random.default_rng(0)
        for number in range(400):
            side = int(chance.integers(1, 400))
            with recorder.frame(image=np.zeros((side, side, 3), np.uint8), camera=f"c{number % 5}"):
                pass
            if number % 10 == 0:
                recorder.trigger("stress")
                time.sleep(0.01)
        recorder.flush(120)
    finally:
        stop.set()
        watcher.join()
    assert recorder.stats().incidents_sealed > 0
    assert 4 * 2**20 < max(largest) <= bound


def test_the_status_file_is_shortened_and_no_event_is_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.ring.status"
    writer, reader = StatusWriter(path), StatusReader(path)
    seen = []
    for number in range(3_000):
        writer.append({"event": "opened", "incident": f"{number:032x}"})
        if number % 7 == 0:
            seen += [int(event["incident"], 16) for event in reader.poll()]
    seen += [int(event["incident"], 16) for event in reader.poll()]
    assert seen == list(range(3_000))
    assert path.stat().st_size <= MAX_FILE_BYTES
    StatusWriter(path).append({"event": "flushed", "flush": 9})
    assert [event["event"] for event in reader.poll()] == ["flushed"]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_frame_larger_than_the_ring_is_kept_as_metadata_and_digest(
    make_recorder: MakeRecorder, bundles: Callable[[], list[Bundle]]
) -> None:
    recorder = make_recorder(max_bytes=2 * 2**20)
    large = np.arange(3 * 2**20, dtype=np.uint32).astype(np.uint8).reshape(1024, 1024, 3)
    with recorder.frame(image=large, number=1):
        pass
    with recorder.frame(image=large, number=2):
        pass
    recorder.trigger("look").wait(120)
    recorder.flush(120)
    [bundle] = bundles()
    with bundle:
        first, second = bundle.manifest.frames
        assert first.images == () and first.lost == {"image-not-recorded": 1} and first.metadata == {"number": 1}
        [left_out] = first.images_left_out
        assert left_out.sha256 == hashlib.sha256(large.tobytes()).hexdigest()
        assert (left_out.height, left_out.width, left_out.channels, left_out.size_bytes) == (
            1024,
            1024,
            3,
            large.nbytes,
        )
        # Hashing is for the rare case: a service whose every frame is too large does not pay for it every time.
        assert second.images_left_out[0].sha256 is None
    assert recorder.stats().frames_lost["image-not-recorded"] == 2


def test_a_record_too_large_for_a_streams_share_is_warned_of_once_with_the_remedy(make_recorder: MakeRecorder) -> None:
    recorder = make_recorder(max_bytes=2 * 2**20)
    session = recorder._session
    assert session is not None
    with recorder.frame(image=np.zeros((1024, 1024, 3), np.uint8)):
        pass
    with pytest.warns(RuntimeWarning, match=r"larger than the 1\.\d MiB .*Raise max_bytes, or lower streams") as warned:
        session._check_sizes()
        session._check_sizes()
    assert len(warned) == 1 and recorder.stats().frames_lost["frames-too-large"] == 1


def make_ring(directory: Path, lanes: int, lane_bytes: int = 2**18) -> RingWriter:
    identity = RingIdentity.of_this_process()
    sizes = {"events_bytes": 2**14, "contexts_bytes": 2**14}
    return RingWriter.create(
        directory / "a.ring", frames_bytes=lanes * lane_bytes, lanes=lanes, identity=identity, **sizes
    )


def record(ring: RingWriter, region: int, key: int, size_bytes: int) -> None:
    reservation = ring.reserve(region, 1, key, size_bytes)
    assert reservation is not None
    ring.commit(reservation)


def keys(ring: RingWriter) -> list[int]:
    with RingReader(ring.path) as reader:
        return [found.key for found in FrameScan(reader, {})]


def test_a_busy_stream_cannot_evict_the_share_of_the_others(tmp_path: Path) -> None:
    ring = make_ring(tmp_path, lanes=4)
    lanes = Lanes(ring, lambda: pytest.fail("there are lanes for all"))
    for key in range(60):
        record(ring, lanes.region("quiet", 4096), key, 4096)
    for key in range(1_000, 3_000):
        stream = ("busy", "busier")[key % 2]
        record(ring, lanes.region(stream, 4096), key, 4096)
    kept = keys(ring)
    quiet = [key for key in kept if key < 1_000]
    assert quiet == list(range(quiet[0], 60)) and len(quiet) >= 50
    # What is not the quiet stream's share is the others'.
    assert len(kept) - len(quiet) >= 2.5 * len(quiet)
    ring.close()


def test_a_stream_that_is_alone_uses_the_whole_ring(tmp_path: Path) -> None:
    ring = make_ring(tmp_path, lanes=4)
    lanes = Lanes(ring, lambda: pytest.fail("it is alone"))
    for key in range(1_000):
        record(ring, lanes.region("only", 4096), key, 4096)
    kept = keys(ring)
    assert kept == list(range(1_000 - len(kept), 1_000))
    assert len(kept) * 4096 >= 0.95 * 4 * ring.capacity(FRAMES)[0] - 4 * 4096
    ring.close()


def test_streams_beyond_the_lanes_share_the_last_one_until_a_stream_falls_silent(tmp_path: Path) -> None:
    ring = make_ring(tmp_path, lanes=2)
    now, crowded = [0.0], []
    lanes = Lanes(ring, lambda: crowded.append(1), clock=lambda: now[0])
    for key, stream in enumerate("abcd"):
        record(ring, lanes.region(stream, 100), key, 100)
    assert len(crowded) == 2 and {lanes.owner(lane) for lane in ring.lanes} == {"a", "b"}
    now[0] = 100.0
    record(ring, lanes.region("b", 100), 9, 100)
    record(ring, lanes.region("e", 100), 10, 100)
    assert {lanes.owner(lane) for lane in ring.lanes} == {"e", "b"}
    record(ring, lanes.region("a", 100), 11, 100)
    assert len(keys(ring)) == 7
    ring.close()


def test_records_of_all_lanes_are_read_in_the_order_they_were_reserved_up_to_one_still_being_written(
    tmp_path: Path,
) -> None:
    ring = make_ring(tmp_path, lanes=3)
    chance = np.random.default_rng(1)
    with RingReader(ring.path) as reader:
        seen: list[int] = []
        after: dict[int, int] = {}
        for key in range(300):
            pending = ring.reserve(FRAMES + int(chance.integers(3)), 1, 10_000 + key, 64) if key % 10 == 5 else None
            record(ring, FRAMES + int(chance.integers(3)), key, int(chance.integers(1, 900)))
            scan = FrameScan(reader, after)
            new = [found.key for found in scan]
            after = scan.after
            seen += new
            if pending is not None:
                assert key not in new and scan.pending == 1
                ring.commit(pending)
        seen += [found.key for found in FrameScan(reader, after)]
        assert [key for key in seen if key < 10_000] == list(range(300))
        assert len(seen) == 330
        assert list(reader.scan(EVENTS)) == [] and list(reader.scan(CONTEXTS)) == []
    ring.close()


def test_a_ring_that_cannot_hold_the_minimum_age_says_how_much_it_holds(tmp_path: Path) -> None:
    ring = make_ring(tmp_path, lanes=1)
    retention = Retention(ring, 10.0)
    held: list[float | None] = []
    for second in range(40):
        for key in range(10 if second >= 20 else 1):  # 256 KiB hold 62 of them
            record(ring, FRAMES, key, 4096)
        held.append(retention.held_seconds(float(second)))
    assert held[:20] == [None] * 20
    assert held[-1] is not None and 4.0 <= held[-1] <= 7.0
    ring.close()


def test_the_minimum_age_is_warned_of_once_and_counted(make_recorder: MakeRecorder) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorder = make_recorder(max_bytes=2 * 2**20, min_age_seconds=30.0)
        deadline = time.monotonic() + 120
        while recorder.stats().errors.get("min-age-not-held", 0) < 2:
            assert time.monotonic() < deadline
            for _ in range(20):
                with recorder.frame(image=np.zeros((200, 200, 3), np.uint8)):
                    pass
            time.sleep(0.05)
    [message] = [str(warning.message) for warning in caught]
    assert "min_age_seconds" in message and "raise max_bytes" in message


@pytest.mark.parametrize("wrong", [{"streams": 0}, {"streams": 15}, {"min_age_seconds": -1}, {"min_age_seconds": "1"}])
def test_wrong_bounds_are_refused_by_name(make_recorder: MakeRecorder, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_recorder(**wrong)


def test_what_is_beside_the_ring_is_part_of_the_bound() -> None:
    settings = SealerSettings(sink="/s", sink_options={}, notify=None, spool_bytes=1_000)
    assert settings.beside_ring_bytes > MAX_FILE_BYTES + 1_000
