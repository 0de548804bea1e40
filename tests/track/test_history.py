"""A sealed bundle shows what happened long before the alarm."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.bundle import Bundle
from recorder.bundle.track import TrackTable
from recorder.ring import RingReader
from recorder.sealer.leftover import salvage
from recorder.track import LEVELS, TrackReader, track_path
from tests.track.footage import grey


def table(bundle: Bundle, seconds: int, stream: str = "line-3") -> TrackTable:
    """The table of a stream at one resolution."""
    [found] = [each for each in bundle.track() if (each.level.stream, each.level.seconds) == (stream, seconds)]
    return found


def dimming(seconds: float) -> Any:
    """Bright for half an hour, then a lamp that dies over ten minutes."""
    return grey(0.6 - 0.5 * min(1.0, max(0.0, (seconds - 1800) / 600)))


def test_a_slow_dimming_stands_in_the_bundle_with_its_onset(film: Any, seal: Any) -> None:
    footage = film()
    footage.play(np.arange(0.0, 2400.0, 2.0), dimming)
    with seal(footage.incident()) as bundle:
        assert bundle.verify() == []
        assert len(bundle.manifest.frames) == 5  # the window itself shows nothing but darkness
        coarse = table(bundle, 10)
        seconds = (np.array(coarse.columns["time_ns"]) - coarse.columns["time_ns"][0]) / 1e9
        luminance = np.array(coarse.columns["luminance.mean"])
        assert len(seconds) == 240 and seconds[-1] == 2390
        assert np.all(np.abs(luminance[seconds < 1790] - 0.6) < 0.01)
        assert abs(luminance[-1] - 0.1) < 0.02
        assert np.all(np.diff(luminance[seconds >= 1800]) < 0)
        rows = table(bundle, 0)
        assert rows.level.rows == 31 and rows.columns["frame"][-1] == 1200
        assert np.allclose(rows.columns["latency"], 0.02)
        assert list(table(bundle, 1).columns["frames"]) == [1] * 301
        assert sum(table(bundle, 60).columns["frames"]) == 1200


def test_thumbnails_reach_back_as_far_as_the_numbers(film: Any, seal: Any) -> None:
    footage = film()
    footage.play(np.arange(0.0, 900.0, 5.0), lambda seconds: grey(seconds / 1000))
    with seal(footage.incident()) as bundle:
        shown = bundle.manifest.track.thumbnails
        # A small track has room for 49 in an hour.
        assert [each.frame for each in shown] == list(range(1, 181, 15))
        assert bundle.read(shown[0].member).startswith(b"\xff\xd8\xff")
        # The window's own images have thumbnails besides.
        assert all(image.thumbnail for frame in bundle.manifest.frames for image in frame.images)


def test_nothing_is_older_than_the_history(film: Any, seal: Any) -> None:
    footage = film(history_seconds=120.0)
    footage.play(np.arange(0.0, 600.0, 1.0), lambda seconds: grey(0.5))
    with seal(footage.incident()) as bundle:
        for each in bundle.track():
            newest = footage.seconds
            oldest = (each.columns["monotonic_ns"][0] - 5_000 * 10**9) / 1e9
            assert newest - oldest <= 120.0
        assert [each.level.rows for each in bundle.track()] == [61, 121, 12, 2]


def test_a_frozen_camera_repeats_itself(film: Any, seal: Any) -> None:
    footage = film()
    footage.play(np.arange(0.0, 20.0, 0.5), lambda seconds: grey(0.5 + min(seconds, 10.0) / 100))
    with seal(footage.incident()) as bundle:
        rows = table(bundle, 0)
        repeated = np.array(rows.columns["repeated"])
        assert np.isnan(repeated[0]) and np.all(repeated[1:21] == 0) and np.all(repeated[21:] == 1)
        assert len(set(rows.columns["digest"])) == 21
        assert np.all(np.array(rows.columns["difference"])[21:] == 0)


def test_an_incident_brings_the_history_of_its_own_stream(film: Any, seal: Any) -> None:
    footage = film()
    for second in range(30):
        footage.play([second], lambda seconds: grey(0.2), stream="dark")
        footage.play([second + 0.5], lambda seconds: grey(0.8), stream="bright", raised=second == 7)
    with seal(footage.incident("bright")) as bundle:
        assert {each.level.stream for each in bundle.track()} == {"bright"}
        assert sum(table(bundle, 10, "bright").columns["raised"]) == 1
        assert list(table(bundle, 0, "bright").columns["status"]).index(1) == 7


def test_a_dead_host_s_history_is_sealed_with_its_ring(film: Any, seal: Any) -> None:
    footage = film()
    footage.play(np.arange(0.0, 90.0, 1.0), lambda seconds: grey(0.5), stream="a")
    footage.play(np.arange(90.0, 180.0, 1.0), lambda seconds: grey(0.5), stream="b")
    with RingReader(footage.path) as reader, seal(salvage(reader, "ab" * 16, "it died", ending="by SIGKILL")) as bundle:
        assert {each.level.stream for each in bundle.track()} == {"a", "b"}
        assert sum(table(bundle, 60, "a").columns["frames"]) == 90


def test_a_sealer_that_ends_goes_on_where_it_was(film: Any, seal: Any) -> None:
    footage = film()
    footage.play(np.arange(0.0, 100.25, 0.25), lambda seconds: grey(0.5))
    for start in (100.5, 103.25, 140.0):
        footage.stop_sealer()
        footage.start_sealer()
        footage.play([start, start + 0.5, start + 1.0], lambda seconds: grey(0.5))
    with seal(footage.incident()) as bundle:
        assert sum(table(bundle, 60).columns["frames"]) == 401 + 9
        for each in bundle.track():
            assert sorted(set(each.columns["monotonic_ns"])) == list(each.columns["monotonic_ns"])
        assert list(table(bundle, 0).columns["frame"]) == sorted(table(bundle, 0).columns["frame"])
        finer, coarser = table(bundle, 10), table(bundle, 60)
        assert np.isclose(
            np.average(finer.columns["luminance.mean"], weights=finer.columns["luminance.count"]),
            np.average(coarser.columns["luminance.mean"], weights=coarser.columns["luminance.count"]),
        )


def test_a_clock_that_jumps_back_breaks_no_interval(film: Any, seal: Any) -> None:
    footage = film()
    footage.play(np.arange(0.0, 60.0, 1.0), lambda seconds: grey(0.5))
    footage.wall_offset_seconds = -86_400.0
    footage.play(np.arange(60.0, 120.0, 1.0), lambda seconds: grey(0.5))
    with seal(footage.incident()) as bundle:
        seconds = table(bundle, 1)
        assert seconds.level.rows == 120 and set(seconds.columns["frames"]) == {1}
        assert list(seconds.columns["monotonic_ns"]) == sorted(seconds.columns["monotonic_ns"])
        assert seconds.level.to_ns < seconds.level.from_ns


def test_what_the_sealer_cannot_afford_is_left_out_and_counted(film: Any, seal: Any) -> None:
    footage = film()
    footage.play([0.0, 1.0], lambda seconds: grey(0.5))
    measuring = footage.tracking.measuring
    measuring._cpu_share, measuring._credit = 0.0, 0.0
    footage.play([2.0, 3.0], lambda seconds: grey(0.5))
    with seal(footage.incident()) as bundle:
        rows = table(bundle, 0)
        assert list(np.isnan(rows.columns["luminance"])) == [False, False, True, True]
        assert np.allclose(rows.columns["latency"], 0.02)
        assert bundle.manifest.incident.lost["track-row-not-measured"] == 2


def test_frames_without_image_or_answer_have_a_row_all_the_same(film: Any, seal: Any) -> None:
    footage = film()
    footage.play([0.0, 1.0, 2.0], lambda seconds: None)
    with seal(footage.incident()) as bundle:
        rows = table(bundle, 0)
        assert rows.level.rows == 3 and list(rows.columns["digest"]) == [0, 0, 0]
        assert "luminance" not in rows.columns and "latency" in rows.columns
        assert bundle.manifest.track.thumbnails == ()


def test_more_streams_than_the_table_holds_are_counted(film: Any, seal: Any) -> None:
    footage = film(track_bytes=128 * 2**10)
    for number in range(6):
        footage.play([float(number)], lambda seconds: grey(0.5), stream=f"camera-{number}")
    assert footage.tracking.lost.snapshot() == {"track-streams-full": 2}
    with seal(footage.incident("camera-5")) as bundle:
        assert {each.level.stream for each in bundle.track()} == {f"camera-{number}" for number in range(4)}


def test_a_track_that_was_tampered_with_costs_the_history_and_nothing_else(film: Any, seal: Any) -> None:
    footage = film()
    footage.play(np.arange(0.0, 10.0, 1.0), lambda seconds: grey(0.5))
    track_path(footage.path).write_bytes(b"VFR-TRAK" + bytes(5000))
    with seal(footage.incident()) as bundle:
        assert bundle.manifest.track is None and bundle.track() == []
        assert bundle.manifest.incident.lost["track-unreadable"] == 1
        assert len(bundle.manifest.frames) == 5


@pytest.mark.parametrize("size_bytes", [128 * 2**10, 2**20])
def test_the_file_never_grows(film: Any, size_bytes: int) -> None:
    footage = film(track_bytes=size_bytes)
    path = track_path(footage.path)
    before = path.stat().st_size
    assert size_bytes * 0.9 < before <= size_bytes
    footage.play(np.arange(0.0, 2_000.0, 1.0), lambda seconds: grey(0.5, 8))
    assert path.stat().st_size == before
    with TrackReader(path) as reader:
        view = reader.load()
        assert len(view.rows) <= reader.layout.slots[1]
        for level, intervals in zip(LEVELS, view.intervals, strict=True):
            assert len(intervals) and np.all(intervals["seconds"] == level.seconds)


def test_a_killed_sealer_s_track_is_read_by_the_next_process(tmp_path: Path) -> None:
    """A sealer that dies between any two of its writes leaves a track that goes on."""
    from tests.track.footage import Footage

    child = os.fork()
    if child == 0:
        footage = Footage(tmp_path / "host.ring")
        footage.play(np.arange(0.0, 120.0, 0.5), lambda seconds: grey(0.5))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with TrackReader(track_path(tmp_path / "host.ring")) as reader:
        view = reader.load().recent()
    assert len(view.rows) == 121 and view.intervals[2]["frames"].sum() == 240
