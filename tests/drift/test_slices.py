"""The slice that carries a shift is named, chance is not, whatever the labels are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from recorder.bundle import Bundle
from recorder.bundle.manifest import TrackLevel
from recorder.bundle.track import TrackTable
from recorder.drift.labels import MAX_SLICES, MAX_TEXT, MAX_VALUES, candidates
from recorder.drift.slices import MAX_FRAMES, Ranking, rank_slices
from replay.slices import Sliced
from tests.bundles import small_bundle

NAMES = tuple(f"signal_{number}" for number in range(8))


def walk(frames: int, memory: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """(frames, 8) scores of unit variance that resemble their neighbours."""
    scores = random.normal(size=(frames, len(NAMES))) * np.sqrt(1 - memory**2)
    state = random.normal(size=len(NAMES))
    for row in scores:
        state = memory * state + row
        row[:] = state
    return scores


def later(frames: int, since: int) -> npt.NDArray[np.bool_]:
    return np.arange(frames) >= since


def carrying(ranking: Ranking) -> list[str]:
    return [f"{each.key}={each.value}" for each in ranking.slices if each.carries]


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8])
def test_the_slice_that_moved_is_first_and_its_frames_are_counted(memory: float) -> None:
    random = np.random.default_rng(1)
    classes = random.choice(["scratch", "dent", "fine"], 100)
    scores, since = walk(100, memory, random), later(100, 50)
    scores[since, 2] += 1.0  # everything moved a little
    scores[(classes == "scratch") & since, 2] += 5.0
    ranking = rank_slices(scores, NAMES, {"hour": ["14"] * 100, "class": classes.tolist()}, since)
    assert carrying(ranking) == ["class=scratch"]
    first = ranking.slices[0]
    assert (first.key, first.signal, first.frames) == ("class", "signal_2", int(((classes == "scratch") & since).sum()))
    assert 4 < first.effect < 6 and 0 < first.at_least < first.effect
    assert first.shifted > 0.9 * first.frames and first.rest_shifted < 0.3 * first.rest


def test_a_small_slice_with_the_largest_effect_does_not_win_by_it() -> None:
    random = np.random.default_rng(2)
    scores, since = walk(120, 0.5, random), later(120, 60)
    large = np.arange(120) % 2 == 0
    scores[large & since, 0] += 3.0
    few = np.isin(np.arange(120), (65, 75, 85, 95))
    scores[few, 1] += np.array([8.0, -1.0, 9.0, 0.5])
    ranking = rank_slices(scores, NAMES, {"large": large.tolist(), "few": few.tolist()}, since)
    by_name = {f"{each.key}={each.value}": each for each in ranking.slices}
    assert carrying(ranking) == ["large=true"]
    assert abs(by_name["few=true"].effect) > abs(by_name["large=true"].effect) and not by_name["few=true"].carries


@pytest.mark.parametrize("memory", [0.0, 0.9, 0.98])
def test_where_all_moved_alike_no_slice_is_named(memory: float) -> None:
    random = np.random.default_rng(3)
    named = 0
    for _ in range(40):
        scores = walk(80, memory, random) + 3.0 * later(80, 40)[:, None]
        labels: dict[str, Any] = {
            "class": random.integers(0, 4, 80).tolist(),
            "lamp": np.repeat(random.integers(0, 2, 10), 8).astype(str).tolist(),
            "rare": (random.random(80) < 0.1).tolist(),
            "exposure": random.random(80).tolist(),
        }
        named += bool(carrying(rank_slices(scores, NAMES, labels, later(80, 40))))
    assert named <= 2


def test_a_camera_of_many_incidents_counts_by_incidents_and_not_by_frames() -> None:
    """Each incident has a level of its own: two of one camera that are darker by chance are two cases, not eighty."""
    random = np.random.default_rng(4)
    runs = np.repeat(np.arange(6), 40)
    cameras = [f"line-{run % 3}" for run in runs.tolist()]
    since = np.tile(later(40, 20), 6)
    levels = np.array([2.0, 0.4, 0.1, 1.0, -0.2, 0.5])
    scores = walk(240, 0.3, random) * 0.3 + (levels[runs] * since)[:, None]
    assert carrying(rank_slices(scores, NAMES, {"camera": cameras}, since, runs)) == []
    scores[since & (runs % 3 == 1)] += 30.0
    assert carrying(rank_slices(scores, NAMES, {"camera": cameras}, since, runs)) == ["camera=line-1"]


def test_a_class_that_always_was_different_is_not_blamed_and_a_new_one_is_said_to_be_new() -> None:
    random = np.random.default_rng(5)
    scores, since = walk(120, 0.3, random), later(120, 60)
    classes = random.choice(["dark", "light"], 120)
    scores[classes == "dark"] -= 6.0
    scores[since] -= 3.0
    assert carrying(rank_slices(scores, NAMES, {"class": classes.tolist()}, since)) == []
    classes[since & (classes == "dark")] = "new"
    new = rank_slices(scores, NAMES, {"class": classes.tolist()}, since).slices[0]
    assert (new.value, new.before, new.carries) == ("new", 0, True)


def test_labels_of_the_same_frames_are_one_slice() -> None:
    labels = {"stream": ["a"] * 10 + ["b"] * 10, "camera": ["a"] * 10 + ["b"] * 10}
    found = candidates(labels, np.ones(20, bool))
    assert [(each.key, each.value, each.also) for each in found] == [
        ("stream", "a", ("camera=a",)),
        ("stream", "b", ("camera=b",)),
    ]


def test_labels_are_bounded_whatever_they_are() -> None:
    """Thousands of values, keys, long texts and numbers: at most so many slices, and of amounts quarters."""
    random = np.random.default_rng(6)
    frames = 4_000
    labels: dict[str, Any] = {
        f"key{number}": random.integers(0, 900, frames).astype(str).tolist() for number in range(90)
    }
    labels = {"trace": [f"t{number}" for number in range(frames)], "long": ["x" * 10**5, None] * (frames // 2)} | labels
    labels["amount"] = random.normal(size=frames).tolist()
    since = later(frames, 1_000)
    found = candidates(labels, since)
    assert len(found) <= MAX_SLICES and not any(each.key == "trace" for each in found)
    assert all(len(each.value) <= MAX_TEXT for each in found)
    assert sum(each.key == "key0" for each in found) <= MAX_VALUES
    quarters = candidates({"amount": labels["amount"]}, since)
    assert len(quarters) == 4 and all(0.2 * frames < each.members.sum() < 0.3 * frames for each in quarters)


@pytest.mark.parametrize(
    "values",
    [
        [float("nan")] * 20,
        [float("inf"), 1] * 10,
        [[1], {}] * 10,
        [10**400] * 20,
        [None] * 20,
        [True, "true"] * 10,
        ["\ud800", "\x1b[31m"] * 10,
        list(range(20)),
        [1e308 * (-1) ** n * n for n in range(20)],
    ],
)
def test_strange_values_and_numbers_are_no_error(values: list[Any]) -> None:
    scores = np.full((20, 2), np.nan)
    scores[:, 1] = [1e6 * (-1) ** n for n in range(20)]
    for each in rank_slices(scores, ("a", "b"), {"label": values}, later(20, 8)).slices:
        assert each.p <= 1 and np.isfinite([each.effect, each.at_least, each.moved, each.worth]).all()


def test_sizes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="sigmas must be"):
        rank_slices(np.zeros((4, 2)), ("a",), {}, np.ones(4, bool))
    with pytest.raises(ValueError, match="labels must have"):
        rank_slices(np.zeros((4, 1)), ("a",), {"key": ["x"]}, np.ones(4, bool))


def test_of_a_sink_of_years_the_newest_frames_are_kept_and_the_rest_is_said(tmp_path: Path) -> None:
    with Bundle.open(small_bundle(tmp_path / "one.zst")) as bundle:
        manifest = bundle.manifest
    gathered, random = Sliced(), np.random.default_rng(0)
    for number in range(12):
        first = number * 1000
        trigger = replace(manifest.incident.triggers[0], frame=first + 500, parameters={})
        incident = replace(manifest.incident, stream="a", triggers=(trigger,))
        level = TrackLevel(stream="a", seconds=0, rows=1000, from_ns=0, to_ns=1)
        ids = list(range(first, first + 1000))
        columns = {
            "frame": ids,
            "time_ns": ids,
            "top_class": [1] * 1000,
            "luminance": random.normal(size=1000).tolist(),
        }
        gathered.add(replace(manifest, incident=incident), [TrackTable(level, columns)])
    kept = [int(run.shape[0]) for run in gathered.sigmas]
    assert len(kept) == len(gathered.labels) == len(gathered.since) == 9 and sum(kept[1:]) < MAX_FRAMES <= sum(kept)
    assert len(gathered._seen) == 9000
    assert gathered.left_out == {f"older than the newest {MAX_FRAMES} frames": 3}
    assert gathered.ranking().frames + gathered.ranking().before == MAX_FRAMES
