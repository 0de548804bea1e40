"""The whole way: a service warms up, its pictures change, and an incident says since when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder import FlightRecorder, triggers
from recorder.bundle import Bundle

WARM_UP = 100


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[..., FlightRecorder]]:
    """Return a function that makes a recorder whose ring is in the test's directory."""
    made: list[FlightRecorder] = []

    def make(**arguments: Any) -> FlightRecorder:
        ring = tmp_path / f"ring-{len(made)}" / "host.ring"
        defaults: dict[str, Any] = {"sink": tmp_path / "incidents", "ring": ring, "max_bytes": 64 * 2**20}
        made.append(FlightRecorder(**{**defaults, "post_frames": 0, "overhead_budget": 1, **arguments}))
        return made[-1]

    yield make
    for each in made:
        each.close(timeout=20)


class Scene:
    """A textured wall under a lamp that flickers a little, seen by a noisy sensor."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(5)
        self.wall = self.random.uniform(60, 180, (32, 48, 3))
        self.lamp = 0.0

    def picture(self, light: float = 1.0) -> np.ndarray[Any, Any]:
        self.lamp = 0.8 * self.lamp + 0.006 * self.random.normal()
        seen = self.wall * (light + self.lamp) + self.random.normal(0, 2, self.wall.shape)
        return np.clip(seen, 0, 255).astype(np.uint8)


def record(host: FlightRecorder, scene: Scene, frames: int, **light: float) -> int:
    """Record frames and return the first one's id."""
    ids = []
    for _ in range(frames):
        with host.frame(image=scene.picture(**light), camera="line-3") as frame:
            ids.append(frame.id)
    return ids[0]


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_darker_scene_after_the_warm_up_is_an_incident_that_says_since_when(recorder: Any, tmp_path: Path) -> None:
    host = recorder(triggers=[triggers.drift(10_000)], warmup_frames=WARM_UP)
    scene = Scene()
    record(host, scene, WARM_UP)

    def learnt() -> bool:
        record(host, scene, 1)  # what was learnt is taken up with a frame
        return host.stats().references == 1

    wait_for(learnt)
    record(host, scene, 60)
    assert host.flush(60) and host.stats().incidents_sealed == 0
    began = record(host, scene, 30, light=0.9)
    wait_for(lambda: host.stats().incidents_sealed == 1)
    [path] = (tmp_path / "incidents").glob("*.zst")
    with Bundle.open(path) as bundle:
        [trigger] = bundle.manifest.incident.triggers
    assert trigger.kind == "drift" and trigger.value > trigger.threshold
    assert abs(trigger.parameters["onset_frame"] - began) <= 2
    assert trigger.frame - began < 20
    assert trigger.parameters["shifts"]["luminance"] < -2
    assert trigger.parameters["frames_per_false_alarm"] == 10_000
    assert trigger.parameters["hours_per_false_alarm"] > 0
