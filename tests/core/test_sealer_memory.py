"""The sealer is as small after an incident as before it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from recorder.sealer.memory import give_back
from tests.campaigns.soak_host import sealer_bytes

IDLE_BYTES = 48 * 2**20


def test_an_idle_sealer_is_small_again_after_large_windows(make_recorder: Any, tmp_path: Path) -> None:
    """Eight frames of 720p; what their encoding took goes back to the kernel."""
    recorder = make_recorder(max_bytes=128 * 2**20, triggers=[], post_frames=0, streams=1)
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    for incident in range(3):
        for number in range(8):
            with recorder.frame(image=noise, number=number):
                pass
        assert recorder.trigger(f"look {incident}").wait(120).state == "sealed"
    deadline = time.monotonic() + 120
    while sealer_bytes(tmp_path / "ring-0") > IDLE_BYTES:
        assert time.monotonic() < deadline, sealer_bytes(tmp_path / "ring-0")
        time.sleep(0.2)


def test_a_c_library_without_the_call_is_left_alone(monkeypatch: Any) -> None:
    """musl has none."""
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    give_back()
    assert os.getpid() > 0
