"""Kills at random moments: what was committed is in the bundle, nothing is torn, nothing is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recorder.bundle import Bundle
from recorder.status import status_path
from tests.campaigns.recording_host import ENTRIES, ENTRY, THREADS, picture
from tests.waiting import is_empty, sealers_of, wait_for

KILLS = 4
REPOSITORY = Path(__file__).parents[2]


def kill_one(directory: Path, ring: Path, seconds: float) -> set[int]:
    """Kill a recording service after a while; return the ids of the frames whose END it had committed."""
    log = directory / "log"
    log.write_bytes(bytes(THREADS * ENTRIES * ENTRY.size))
    command = [
        sys.executable,
        "-m",
        "tests.campaigns.recording_host",
        str(directory / "incidents"),
        str(ring),
        str(log),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(directory), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=directory) as host:
        assert host.stdout is not None and host.stdout.readline() == "recording\n"
        wait_for(status_path(ring).exists)  # who is killed before a sealer is there is sealed by the next start
        time.sleep(seconds)
        host.send_signal(signal.SIGKILL)
    return {number for (number,) in ENTRY.iter_unpack(log.read_bytes()) if number}


def check(path: Path, committed: set[int]) -> int:
    """Check a bundle against what had been committed; return the number of frames in it."""
    with Bundle.open(path) as bundle:
        assert bundle.verify() == []
        manifest = bundle.manifest
        assert manifest.incident.triggers[0].kind == "process_died"
        assert manifest.incident.triggers[0].reason.endswith(("by SIGKILL", "how is not known"))
        complete = {frame.id for frame in manifest.frames if frame.status == "complete"}
        assert committed <= complete
        assert len(manifest.frames) - len(committed) <= 2 * THREADS
        for frame in manifest.frames:
            thread, number = frame.metadata["thread"], frame.metadata["number"]
            assert isinstance(thread, int) and isinstance(number, int) and frame.stream == f"c{thread}"
            [image] = frame.images
            assert np.array_equal(bundle.pixels(image), picture(thread, number))
        return len(manifest.frames)


def campaign(directory: Path, kills: int) -> int:
    """Kill so many services one after the other, with one ring directory and sealer; return the frames recovered."""
    chance = random.Random()
    ring, sink = directory / "ring" / "host.ring", directory / "incidents"
    frames = 0
    for _ in range(kills):
        committed = kill_one(directory, ring, chance.uniform(0.0, 0.25))
        if committed:
            wait_for(lambda: list(sink.glob("*.zst")))
        # A host that was killed before its first record leaves nothing to be sealed; its ring goes all the same, and
        # then what is beside it: the next host has the name only when all of it is gone.
        wait_for(lambda: not list(ring.parent.glob("*.ring*")))
        bundles = list(sink.glob("*.zst"))
        assert len(bundles) <= 1
        for bundle in bundles:
            frames += check(bundle, committed)
            bundle.unlink()
    wait_for(lambda: is_empty(ring.parent))
    wait_for(lambda: not sealers_of(ring.parent))
    assert {entry.name for entry in directory.iterdir()} <= {"incidents", "log", "ring"}
    left = {entry.name for entry in sink.iterdir()} if sink.exists() else set()
    assert {name for name in left if not name.startswith(".limits-")} <= {"models"}  # what outlives a crash loop
    return frames


def test_every_frame_committed_before_a_kill_is_recovered_and_nothing_is_left(tmp_path: Path) -> None:
    """A few kills at random moments while four threads record."""
    assert campaign(tmp_path, KILLS) > 0


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_a_thousand_kills(tmp_path: Path) -> None:
    """The same, a thousand times; FLIGHT_RECORDER_KILLS sets another number."""
    kills = int(os.environ.get("FLIGHT_RECORDER_KILLS", "1000"))
    frames = campaign(tmp_path, kills)
    print(f"{kills} kills, {frames} frames recovered")
    assert frames > kills
