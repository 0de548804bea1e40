"""A service that records for long: its memory stays flat, every request for an incident is accounted for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
MAX_GROWTH_BYTES = 16 * 2**20


def soak(directory: Path, frames: int, incidents: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.campaigns.soak_host", str(directory / "incidents")]
    command += [str(directory / "ring" / "host.ring"), str(frames), str(incidents)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(directory), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=directory)
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["frames"] > frames
    assert figures["grown_bytes"] <= MAX_GROWTH_BYTES
    return figures


def test_memory_is_flat_over_many_frames_and_incidents(tmp_path: Path) -> None:
    """Twenty thousand frames, twenty incidents."""
    figures = soak(tmp_path, 20_000, 20)
    assert figures["errors"] == {}
    assert figures["sealed"] > 0


@pytest.mark.soak
@pytest.mark.timeout(7_200)
def test_memory_is_flat_over_a_million_frames_and_a_thousand_incidents(tmp_path: Path) -> None:
    """The goal itself."""
    print(soak(tmp_path, 1_000_000, 1_000))
