"""An incident's windows are judged together, and what a profile cannot compare with it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recorder.cause.corruptions import corrupted
from recorder.cause.features import is_fixed, learn_normal
from recorder.cause.model import windows_of
from recorder.cause.statistics import measure
from recorder.cause.views import views_of
from recorder.cause.vocabulary import AMOUNTS
from recorder.profile import Profile
from tests.cause.conftest import scene


def _dark(frames: list[Any]) -> list[Any]:
    return [(frame * 0.45).astype(np.uint8) for frame in frames]


def test_a_fault_that_begins_within_the_frames_is_named(profile: Any) -> None:
    """The healthy half before it is set aside."""
    clean = scene(32, seed=6)
    diagnosis = profile.diagnose([*clean[:16], *_dark(clean[16:])])
    assert diagnosis.cause == "darker"
    assert (diagnosis.evidence["windows"], diagnosis.evidence["windows_agreeing"]) == (4, 2)


def test_a_cast_of_any_colour_has_its_size() -> None:
    """Casts go all ways, so that their mean is no cast at all; what is told is how far they go."""
    windows = [measure(each) for each in windows_of(views_of(scene(32, seed=7)))]
    normal = learn_normal(windows, keep_thumbnail=False)
    first = 2 * len(normal.names)  # the casts' sizes stand behind differences and spreads
    clean = max(normal.features(each, None)[first : first + 3].max() for each in windows)
    for gains in ((1.3, 1.0, 0.8), (0.8, 1.0, 1.3), (0.85, 1.2, 0.85), (1.2, 0.8, 1.1)):
        tinted = [np.clip(frame * np.array(gains), 0, 255).astype(np.uint8) for frame in scene(8, seed=8)]
        assert normal.features(measure(views_of(tinted)), None)[first : first + 3].min() > clean + 0.5


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_cover_is_as_large_as_said_and_lies_at_one_place(severity: int) -> None:
    """In the whole view; the centre in full resolution shows the middle of the same frame."""
    frames = [np.full((400, 600, 3), 255, np.uint8)] * 2
    views = views_of(frames)
    shares, centres = [], []
    for seed in range(20):
        made = corrupted(views, "occlusion", severity, seed)
        covered = made.wide[0].min(axis=2) < 0.9
        shares.append(covered.mean())
        height, width = covered.shape
        across, high = (side / (2 * views.scale) for side in (views.detail.shape[2], views.detail.shape[1]))
        middle = covered[round(height / 2 - high) : round(height / 2 + high)]
        middle = middle[:, round(width / 2 - across) : round(width / 2 + across)]
        centres.append(abs(middle.mean() - (made.detail[0].min(axis=2) < 0.9).mean()))
    assert 0.4 < np.mean(shares) / AMOUNTS["occlusion"].levels[severity - 1] < 1.3
    assert np.mean(centres) < 0.05


def test_a_camera_before_a_plain_wall_stands_still() -> None:
    """Where nothing tells turns apart, standing still explains as much as the best turn."""
    rng = np.random.default_rng(0)
    wall = np.linspace(90, 120, 160)[None, :, None] * np.ones((120, 1, 3))
    frames = [np.clip(wall + rng.normal(0, 1, wall.shape), 0, 255).astype(np.uint8) for _ in range(48)]
    for frame in frames:
        frame[50:70, 70:90] = 30  # all there is to hold on to
    windows = [measure(each) for each in windows_of(views_of(frames))]
    normal = learn_normal(windows, keep_thumbnail=True)
    assert normal.thumb is not None
    assert is_fixed(normal.thumb, windows)


def test_a_profile_of_other_statistics_gives_unknown_with_a_reason(profile: Any) -> None:
    """It was made by another version; nothing is guessed from it."""
    model = profile.cameras[""]
    names = ("other", *model.normal.names[1:])
    other = Profile({"": replace(model, normal=replace(model.normal, names=names))})
    diagnosis = other.diagnose(scene(8, seed=1))
    assert diagnosis.cause == "unknown"
    assert "other statistics" in diagnosis.evidence["reason"]
