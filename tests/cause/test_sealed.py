"""An incident names its cause, and one that cannot be diagnosed is sealed all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder import FlightRecorder, PrivacyPolicy, Redactor
from recorder.bundle import Bundle
from recorder.bundle.manifest import Incident
from tests.cause.conftest import scene
from tests.cli.conftest import Run, replay

__all__ = ["replay"]  # a fixture


def incident(profile: Any, sink: Path, pictures: list[Any], **options: Any) -> tuple[Path, Incident]:
    """Record pictures and seal them; the last one is the trigger's."""
    with FlightRecorder(
        sink=str(sink), profile=profile, pre_frames=64, max_bytes=2**25, overhead_budget=1, **options
    ) as recorder:
        for picture in pictures:
            with recorder.frame(image=picture):
                pass
        path = recorder.trigger("look").wait(120).path
    assert path is not None
    with Bundle.open(path) as bundle:
        assert bundle.verify() == []
        return Path(path), bundle.manifest.incident


def test_the_cause_stands_in_the_bundle_and_is_shown(profile: Any, tmp_path: Path, replay: Run) -> None:
    profile.save(tmp_path / "normal.profile")
    dark = [(frame * 0.5).astype(np.uint8) for frame in scene(10, seed=5)]
    path, sealed = incident(profile, tmp_path / "sink", [*scene(12, seed=4), *dark])
    assert sealed.cause is not None and sealed.cause["cause"] == "darker", sealed.cause
    assert "not-diagnosed" not in sealed.lost
    shown = replay("show", str(path))
    assert "Cause: darker" in shown.out
    assert replay("ls", str(path.parent), "--cause", "darker", "--json").json()["incidents"]


@pytest.mark.parametrize("broken", ["missing", "damaged"])
def test_a_profile_that_cannot_be_used_costs_the_cause_alone(profile: Any, tmp_path: Path, broken: str) -> None:
    file = tmp_path / "normal.profile"
    profile.save(file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        if broken == "missing":
            file.unlink()
        else:
            file.write_bytes(b"{")
        _, sealed = incident(str(file), tmp_path / "sink", scene(4))
    assert sealed.cause is None and sealed.lost["not-diagnosed"] == 1


def test_redacted_pictures_are_not_diagnosed(profile: Any, tmp_path: Path) -> None:
    """What is found would be the redaction."""
    profile.save(tmp_path / "normal.profile")
    privacy = PrivacyPolicy(levels={"image": "redacted"}, redactors={"image": (Redactor.downscale(factor=4),)})
    _, sealed = incident(profile, tmp_path / "sink", scene(4), privacy=privacy)
    assert sealed.cause is None
