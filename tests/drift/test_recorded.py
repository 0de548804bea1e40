"""The whole way: a service warms up, its pictures change, and an incident says since when."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recorder import FlightRecorder, triggers
from recorder.bundle import Bundle
from recorder.layers.embedding import pooled
from recorder.records import Kind
from tests.waiting import wait_for

WARM_UP = 100


class Backbone(torch.nn.Module):
    """Features of a batch of small maps, and one class for all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = torch.nn.Sequential(torch.nn.Conv2d(1, 24, 3), torch.nn.ReLU())
        self.head = torch.nn.Linear(24, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(maps).mean(dim=(2, 3))) * 0


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
        each.close(timeout=120)


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


def test_a_darker_scene_after_the_warm_up_is_an_incident_that_says_since_when(recorder: Any, tmp_path: Path) -> None:
    host = recorder(triggers=[triggers.drift(10_000)], warmup_frames=WARM_UP)
    scene = Scene()
    record(host, scene, WARM_UP)
    meanwhile = copy.deepcopy(scene)  # however many frames that takes, the ones after them are the same in every run

    def learnt() -> bool:
        record(host, meanwhile, 1)  # what was learnt is taken up with a frame
        return host.stats().references == 1

    wait_for(learnt)
    record(host, scene, 60)
    assert host.flush(120) and host.stats().incidents_sealed == 0
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


def test_an_embedding_shows_what_neither_picture_nor_answer_does(recorder: Any, tmp_path: Path) -> None:
    host = recorder(triggers=[triggers.drift(10_000)], warmup_frames=WARM_UP)
    model = host.attach(Backbone(), embedding="features.0", store=False)
    random = torch.Generator().manual_seed(3)

    def infer(frames: int, tilt: float = 0.0, noise: torch.Generator = random) -> None:
        for _ in range(frames):
            maps = torch.randn(2, 1, 8, 8, generator=noise) + tilt * torch.linspace(-1, 1, 8)
            with host.frames(images=[None, None], metadata=[{"camera": "a"}, {"camera": "b"}]), torch.no_grad():
                model(maps)

    infer(WARM_UP)
    meanwhile = random.clone_state()  # as above

    def learnt() -> bool:
        infer(1, noise=meanwhile)
        return host.stats().references == 2

    wait_for(learnt)
    infer(40)
    assert host.flush(120) and host.stats().incidents_sealed == 0
    infer(30, tilt=3.0)
    wait_for(lambda: host.stats().incidents_sealed == 2)
    for path in (tmp_path / "incidents").glob("*.zst"):
        with Bundle.open(path) as bundle:
            [trigger] = bundle.manifest.incident.triggers
        assert "/embedding/" in trigger.parameters["detector"]


def test_an_embedding_is_a_layer_of_the_model_pooled_to_a_few_hundred_numbers(recorder: Any) -> None:
    assert pooled(torch.ones(2, 1280, 7, 7)).shape == (2, 512)
    assert pooled(torch.ones(2, 5, 96)).shape == (2, 96) and pooled((torch.ones(1, 8), None)).shape == (1, 8)
    assert pooled(torch.ones(3)) is None and pooled(torch.ones(2, 3, dtype=torch.int64)) is None and pooled("x") is None
    with pytest.raises(ValueError, match="names no layer"):
        recorder(triggers=[]).attach(Backbone(), embedding="feature.0")


def test_features_that_may_not_leave_the_process_are_not_recorded(recorder: Any) -> None:
    host = recorder(triggers=[], privacy={"levels": {"model_output": "digest-only"}})
    model = host.attach(Backbone(), embedding="features.0", store=False)
    kinds = []
    write = host._session.records.write
    host._session.records.write = lambda kind, *rest: kinds.append(kind) or write(kind, *rest)
    with host.frame():
        model(torch.zeros(1, 1, 8, 8))
    assert Kind.EMBEDDING not in kinds
