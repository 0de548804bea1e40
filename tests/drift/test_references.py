"""Learning while a service warms up: once, from what is steady, and remembered by the next sealer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder import FlightRecorder
from recorder.drift.file import save_reference
from recorder.drift.frames import reference_of_frames
from recorder.drift.reference import Reference
from recorder.sealer.references import References, learnt_path
from recorder.track import NO_CLASS, TRACK_SIGNALS, Row
from tests.drift.conftest import NAMES, stream, vectors

PLACES = [list(TRACK_SIGNALS).index(name) for name in NAMES]


def rows(signals: np.ndarray, stream: str = "line-3") -> list[Row]:
    made = []
    for number, each in enumerate(signals):
        values = np.full(len(TRACK_SIGNALS), np.nan, np.float32)
        values[PLACES] = each
        made.append(Row(number, stream, number, number * 10**8, 0, 1, NO_CLASS, values))
    return made


def feed(references: References, signals: np.ndarray) -> list[bool]:
    """Whether each frame was compared with anything."""
    compared = []
    for row in rows(signals):
        compared.append(references.watch(row) is not None)
        references.settle()
    return compared


def test_what_was_learnt_is_kept_for_the_next_sealer(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    path = learnt_path(tmp_path, tmp_path / "rings")
    compared = feed(References(None, 60, path, events.append), stream(80, 0.5, 1))
    assert not any(compared[:60]) and all(compared[61:])
    assert events == [{"event": "learnt", "streams": 1}]
    assert all(feed(References(None, 60, path), stream(5, 0.5, 2)))
    path.write_text("{}")
    assert not any(feed(References(None, 60, path), stream(5, 0.5, 2)))


def test_a_warm_up_that_drifts_is_refused_said_once_and_gone_on_with() -> None:
    events: list[dict[str, Any]] = []
    references = References(None, 60, None, events.append)
    ramp = np.outer(np.minimum(np.arange(150) / 60, 2.0), [1, 0, 0, 0, 0])
    compared = feed(references, stream(150, 0.3, 3) + ramp)
    assert not any(compared[:120])
    assert [event["reason"] for event in events if event["event"] == "fault"] == ["warm-up-refused"]
    assert "itself drifting" in events[0]["detail"] and "line-3" in events[0]["detail"]


def test_a_frame_without_an_embedding_does_not_cost_the_others_theirs() -> None:
    references, known = References(None, 60), vectors(60, 4).astype(np.float32)
    for number, row in enumerate(rows(stream(60, 0.3, 4))):
        references.watch(row, None if number == 7 else known[number])
    references.settle()
    references.watch(rows(stream(1, 0.3, 5))[0], known[0])
    learnt = references.normal("line-3")
    assert learnt is not None and learnt.frames == 59 and learnt.scores.parts[-1].name == "embedding"


def test_a_profile_serves_every_stream_and_one_that_cannot_be_read_none(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    save_reference(Reference.fit(stream(120, 0.5, 1), NAMES, frames_per_false_alarm=5_000), tmp_path / "profile")
    watched = References(tmp_path / "profile").watch(rows(stream(1, 0.5, 2))[0])
    assert watched is not None and watched.frames_per_false_alarm == 5_000 and watched.hours(5_000) is None
    assert not any(feed(References(tmp_path / "nothing", 0, None, events.append), stream(3, 0.5, 2)))
    assert [event["reason"] for event in events] == ["profile-unreadable"]


def test_a_reference_is_learnt_from_pictures_as_the_sealer_measures_them() -> None:
    random = np.random.default_rng(0)
    wall = random.uniform(50, 200, (40, 56, 3))
    pictures = [np.clip(wall + random.normal(0, 3, wall.shape), 0, 255).astype(np.uint8) for _ in range(80)]
    known = reference_of_frames(pictures, begins=[40]).streams[""]
    assert {"luminance", "noise", "difference"} <= set(known.scores.names) and known.frames == 78
    with pytest.raises(ValueError, match="at least 50"):
        reference_of_frames([])
    with pytest.raises(ValueError, match=r"change from \(40, 56, 3\) of uint8 to \(20, 56, 3\) of uint8 at frame 60"):
        reference_of_frames([*pictures[:60], *(each[:20] for each in pictures[60:])])
    with pytest.raises(ValueError, match="no signal that varies"):
        reference_of_frames(pictures[:1] * 60)
    with pytest.raises(ValueError, match="an image is"):
        reference_of_frames([np.zeros((3, 3), np.float32)])


@pytest.mark.parametrize("arguments", [{"warmup_frames": 10}, {"warmup_frames": "many"}, {"profile": 3}])
def test_arguments_that_cannot_be_are_refused_at_construction(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="|".join(arguments)):
        FlightRecorder(tmp_path, **arguments)
