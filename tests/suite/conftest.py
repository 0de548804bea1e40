"""A suite of every outcome, made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from recorder.bundle import Bundle
from recorder.bundle.manifest import Trigger
from replay.suite.adding import Added, add_case
from tests.replay.bundles_of_calls import T0_NS, Recording
from tests.suite import models

MODELS = "tests.suite.models"
#: What is answered to the third frame: class 2, fairly sure.
LOGITS = torch.tensor([[0.0, 1.0, 4.0]])


def incident(directory: Path, argument: torch.Tensor = LOGITS, name: str = "scores", **attached: Any) -> Path:
    """Three frames of one model; the last has low confidence."""
    directory.mkdir(parents=True, exist_ok=True)
    recording = Recording(directory)
    model = recording.attach(getattr(models, name)(), name, **attached)
    for _ in range(3):
        model(argument)
    parameters = {"below": 0.99}
    recording.triggers.append(
        Trigger(
            kind="low_confidence", reason="confidence 0.93 is below 0.99", frame=3, time_ns=T0_NS, parameters=parameters
        )
    )
    return recording.write()


def add(path: Path, folder: Path, *expect: str, **options: Any) -> Added:
    """Add without running anything, unless told otherwise."""
    with Bundle.open(path) as bundle:
        return add_case(bundle, folder, expect, **{"minimize": False, **options})


@pytest.fixture(scope="package")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return incident(tmp_path_factory.mktemp("incident"))


@pytest.fixture(scope="package")
def suite(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One case for everything that can become of one."""
    directory = tmp_path_factory.mktemp("suite")
    folder = directory / "suite"
    labels = {"ok": 0, "dent": 1, "scratch": 2}
    add(recorded, folder, "class=scratch", "not=dent", "confidence>=.9", name="right", labels=labels)
    add(recorded, folder, "same-as-recorded", name="same")
    add(recorded, folder, "class=0", name="wrong", labels=labels)
    add(recorded, folder, "no-failure", name="still-unsure")
    add(recorded, folder, "stable:image.brightness=0.8..1.2", name="needs-pipeline")
    given = directory / "gt.json"
    given.write_text(json.dumps({"boxes": [[0, 0, 10, 10], [20, 20, 40, 40]], "labels": [1, 1]}))
    corners = torch.tensor([[0.0, 0, 10, 11], [50, 50, 60, 60]])
    add(incident(directory / "boxes", corners, "boxes"), folder, f"boxes~{given}", name="boxes")
    add(incident(directory / "fickle", name="fickle"), folder, "same-as-recorded", name="fickle")
    for name in ("gone", "other", "torn"):
        add(recorded, folder, "class=2", name=name)
    (folder / "gone.zst").unlink()
    shutil.copy(folder / "boxes.zst", folder / "other.zst")
    (folder / "torn.zst").write_bytes((folder / "torn.zst").read_bytes()[:-60])
    return folder
