"""The whole way: a recorder in a process, its sealer in another, and the bundle."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.settings import RecorderSettings
from recorder.track import track_path
from tests.waiting import is_empty, wait_for


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[..., FlightRecorder]]:
    """Return a function that makes a recorder whose ring is in the test's directory."""
    made: list[FlightRecorder] = []

    def make(**arguments: Any) -> FlightRecorder:
        ring = tmp_path / "ring" / "host.ring"
        defaults: dict[str, Any] = {"sink": tmp_path / "incidents", "ring": ring, "max_bytes": 16 * 2**20}
        made.append(FlightRecorder(**{**defaults, "triggers": [], "post_frames": 0, **arguments}))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout=120)
    wait_for(lambda: is_empty(tmp_path / "ring"))


def record(recorder: FlightRecorder, frames: int, confidence: float = 0.9) -> None:
    for number in range(frames):
        with recorder.frame(image=np.full((48, 64, 3), 4 * number, np.uint8), camera="line-3") as frame:
            frame.output = {"scores": np.array([confidence, 0.1], np.float32), "labels": np.array([7, 2])}


def test_stats_say_what_the_history_costs(recorder: Any) -> None:
    """It is the sealer's time, not the host's: nobody would see it otherwise."""
    host = recorder()
    record(host, 20)
    assert host.flush(120)
    stats = host.stats()
    assert stats.track_rows == 20 and 0 < stats.track_seconds < 60


def test_every_frame_is_in_the_track_with_its_answer(recorder: Any, tmp_path: Path) -> None:
    host = recorder(pre_frames=2)
    record(host, 40)
    path = host.trigger("look").wait(120).path
    with Bundle.open(path) as bundle:
        assert len(bundle.manifest.frames) == 3
        rows = bundle.track()[0]
        assert rows.level.stream == "line-3" and rows.level.rows == 40
        assert np.allclose(rows.columns["luminance"], [4 * number / 255 for number in range(40)], atol=1e-3)
        assert np.allclose(rows.columns["confidence"], 0.9) and set(rows.columns["detections"]) == {2.0}
        assert set(rows.columns["top_class"]) == {7} and set(rows.columns["status"]) == {0}
        assert len(set(rows.columns["digest"])) == 40


def test_ring_windows_and_track_together_keep_the_bound(recorder: Any, tmp_path: Path) -> None:
    host = recorder()
    record(host, 1)
    path = track_path(tmp_path / "ring" / "host.ring")
    wait_for(path.exists)
    host.flush(120)
    spool_bytes = host._settings.sealer.spool_bytes
    assert host.stats().ring_bytes + spool_bytes + path.stat().st_size <= 16 * 2**20
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_history_means_no_file(recorder: Any, tmp_path: Path) -> None:
    host = recorder(history_seconds=0)
    record(host, 5)
    path = host.trigger("look").wait(120).path
    assert not track_path(tmp_path / "ring" / "host.ring").exists()
    with Bundle.open(path) as bundle:
        assert bundle.manifest.track is None and bundle.track() == []


def test_history_survives_the_sealer(recorder: Any, tmp_path: Path) -> None:
    host = recorder(pre_frames=2)
    record(host, 20)
    host.flush(120)
    [sealer] = sealers(tmp_path / "ring")
    os.kill(sealer, signal.SIGKILL)
    record(host, 20)
    # The keeper starts another within ten seconds; the trigger waits in the ring for it.
    path = host.trigger("look").wait(120).path
    with Bundle.open(path) as bundle:
        [rows] = [table for table in bundle.track() if table.level.seconds == 0]
        frames = list(rows.columns["frame"])
        assert len(frames) == 40 and frames == sorted(set(frames))
        assert all(sum(table.columns["frames"]) == 40 for table in bundle.track() if table.level.seconds)


def sealers(directory: Path) -> list[int]:
    """Process ids of the sealers of a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"recorder.sealer" in command and str(directory).encode() in command:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("seconds", [-1, 86_401, "3600", float("nan"), None])
def test_a_history_that_cannot_be_is_an_error_at_construction(tmp_path: Path, seconds: Any) -> None:
    with pytest.raises(ValueError, match="history_seconds"):
        FlightRecorder(sink=tmp_path, history_seconds=seconds)


def test_a_sixteenth_of_the_bound_is_the_track_s_up_to_sixteen_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHT_RECORDER_DISABLED", "1")

    def track_bytes(max_bytes: int, history_seconds: float = 3600.0) -> int:
        settings: RecorderSettings = FlightRecorder(max_bytes=max_bytes, history_seconds=history_seconds)._settings
        return settings.sealer.track_bytes

    assert track_bytes(256 * 2**20) == track_bytes(2**30) == 16 * 2**20
    assert track_bytes(64 * 2**20) == 4 * 2**20
    assert track_bytes(2**20) == 0  # too little to be of use
    assert track_bytes(256 * 2**20, 0) == 0
