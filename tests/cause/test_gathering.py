"""A profile is learnt from hours of frames in bounded memory, and asked about an incident as the sealer asks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recorder.bundle import Bundle
from recorder.bundle.manifest import Incident, Trigger
from recorder.cause.views import Views
from recorder.profile import Profile
from recorder.profile.gathering import Gathered, most_windows
from recorder.sealer.diagnosing import looked_at
from tests.bundles import small_bundle
from tests.cause.test_commands import _run


def numbered(number: int) -> Views:
    return Views(np.full((1, 2, 2, 3), number, np.float32), np.zeros((1, 2, 2, 3), np.float32), 1.0, 2)


def test_of_many_windows_those_that_stay_are_spread_evenly() -> None:
    gathered = Gathered()
    for number in range(8 * 1000 + 5):
        gathered.add(numbered(number), 100)
    begins = [int(window.wide[0, 0, 0, 0]) for window in gathered.windows]
    assert begins == list(range(0, 8000, 16 * 8)) and {len(window) for window in gathered.windows} == {8}
    assert (most_windows(1), most_windows(10), most_windows(64)) == (500, 50, 32)


def test_one_camera_too_many_is_refused_before_all_are_kept() -> None:
    drawn = []

    def frames() -> Iterator[Any]:
        for number in range(10_000):
            drawn.append(number)
            yield np.zeros((32, 32), np.uint8)

    with pytest.raises(ValueError, match="at most 64 cameras"):
        Profile.fit(frames(), keys=[str(number) for number in range(10_000)])
    assert len(drawn) == 65


def test_images_of_a_directory_are_read_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 40)).save(tmp_path / "frames" / f"{number}.png")
    small_bundle(tmp_path / "one.zst")
    told: list[object] = []

    def fit(frames: Iterator[Any], *, keys: list[str] | None, **_: object) -> Profile:
        assert not isinstance(frames, list)
        for count, _frame in enumerate(frames):
            told.append(None if keys is None else len(keys) == count + 1)
        raise ValueError("seen enough")

    monkeypatch.setattr(Profile, "fit", fit)
    for sources, wanted in (([tmp_path / "frames"], [None] * 3), ([tmp_path / "one.zst", tmp_path / "frames"], None)):
        code, _, err = _run(["profile", "build", *map(str, sources), "-o", str(tmp_path / "new")], capsys)
        assert code == 2 and "seen enough" in err
        assert told == wanted or (wanted is None and all(told) and len(told) > 3)
        told.clear()


def test_the_frames_since_the_onset_are_looked_at(tmp_path: Path) -> None:
    with Bundle.open(small_bundle(tmp_path / "one.zst")) as bundle:
        incident = bundle.manifest.incident

    def at(frame: int | None, **parameters: Any) -> Incident:
        trigger = Trigger(kind="drift", reason="", frame=frame, time_ns=0, parameters=parameters)
        return replace(incident, triggers=(trigger,))

    assert looked_at(range(100), at(90)) == list(range(90, 100))
    assert looked_at(range(100), at(90, onset_frame=80)) == list(range(80, 100))
    assert looked_at(range(100), at(97)) == list(range(92, 100)), "too few alone: with those before"
    assert looked_at(range(100), at(None)) == list(range(68, 100))
    assert looked_at([3], at(3)) == [3] and looked_at([], at(3)) == []
