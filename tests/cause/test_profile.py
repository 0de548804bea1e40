"""A profile names what is wrong with frames, says unknown where it cannot, and trusts no file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from recorder.profile import Profile
from tests.cause.conftest import scene


def test_clean_frames_have_no_cause(profile: Any) -> None:
    """Frames of the same scene that were not learnt are healthy."""
    assert profile.diagnose(scene(16, seed=1)).cause == "none"


def test_plain_faults_are_named(profile: Any) -> None:
    """Darkness, noise and swapped channels, each with a severity or evidence."""
    clean = scene(8, seed=2)
    rng = np.random.default_rng(0)
    dark = profile.diagnose([(frame * 0.5).astype(np.uint8) for frame in clean])
    assert dark.cause == "darker"
    assert 1.0 < dark.evidence["severity"] < 3.5
    noisy = [np.clip(frame + rng.normal(0, 20, frame.shape), 0, 255).astype(np.uint8) for frame in clean]
    assert profile.diagnose(noisy).cause == "noise"
    assert profile.diagnose([frame[..., ::-1] for frame in clean]).cause == "channel-order"


def test_a_frozen_feed_is_told_by_its_bytes(profile: Any) -> None:
    """The same frame again and again is one, whatever is on it."""
    diagnosis = profile.diagnose([scene(1, seed=3)[0]] * 8)
    assert (diagnosis.cause, diagnosis.confidence) == ("frozen-feed", 1.0)


def test_what_cannot_be_compared_is_unknown_with_a_reason(profile: Any) -> None:
    """Another size, another model, one frame, none, floats: never a guess."""
    clean = scene(8)
    for frames, digest in (
        ([frame[:-8] for frame in clean], None),
        ([frame[:, :-8] for frame in clean], None),
        (clean, "cd" * 32),
        (clean[:1], None),
        ([], None),
        ([frame / 255 for frame in clean], None),
    ):
        diagnosis = profile.diagnose(frames, model_digest=digest)
        assert diagnosis.cause == "unknown"
        assert diagnosis.evidence["reason"]


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([np.full((64, 64, 3), 90, np.uint8)] * 40, "one colour"),
        ([np.zeros((1, 1, 3), np.uint8)] * 40, "at least 32 pixels"),
        (scene(20) + scene(20, height=84), "change their size"),
        (scene(10), "at least 32"),
        ([], "no frame"),
        ([(frame * (1 - 0.012 * n)).astype(np.uint8) for n, frame in enumerate(scene(64))], "drifting"),
        ([np.zeros((64, 64, 2), np.uint8)] * 40, "channels"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(frames: Any, says: str) -> None:
    """With one sentence."""
    with pytest.raises(ValueError, match=says):
        Profile.fit(frames)


def test_embeddings_must_be_finite() -> None:
    """NaN in an embedding is no normal."""
    with pytest.raises(ValueError, match="NaN"):
        Profile.fit(scene(4), np.full((4, 2), np.nan))


def test_a_saved_profile_says_the_same_and_keeps_to_its_schema(profile: Any, tmp_path: Path) -> None:
    """And is readable by its user alone."""
    path = tmp_path / "line.profile"
    profile.save(path)
    assert path.stat().st_mode & 0o077 == 0
    again = Profile.load(path)
    frames = [(frame * 0.5).astype(np.uint8) for frame in scene(8, seed=4)]
    assert again.diagnose(frames).document()["cause"] == profile.diagnose(frames).cause
    schema = json.loads(Path("schemas/profile.schema.json").read_text())
    jsonschema.validate(json.loads(path.read_text()), schema)


def test_a_damaged_profile_is_one_sentence(profile: Any, tmp_path: Path) -> None:
    """Whatever is turned in it: a ValueError, or a profile that still answers."""
    path = tmp_path / "line.profile"
    profile.save(path)
    good = json.loads(path.read_text())
    rng = random.Random(5)
    camera = good["cameras"][""]
    for key in camera:
        for value in (None, [], {}, "x", -1, 1e300, {"shape": [10**9], "data": ""}):
            bad = {**good, "cameras": {"": {**camera, key: value}}}
            try:
                Profile.from_document(bad)
            except ValueError as error:
                assert "\n" not in str(error)
    data = path.read_bytes()
    for _ in range(20):
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] if rng.random() < 0.5 else data[:at] + b"\xff" + data[at + 1 :])
        with pytest.raises(ValueError):
            Profile.load(path)
