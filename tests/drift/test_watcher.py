"""Shifts are found soon, told since when, and chance keeps to its rate, whatever the memory from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest

from recorder.drift import Alarm, Departure, Reference, Watcher
from recorder.drift.calibration import ALLOWANCE, STEP_CAP, _cusum, _statistics
from recorder.drift.moments import Moments
from tests.drift.conftest import NAMES, stream, vectors

RATE = 10_000


def first_alarm(watcher: Watcher, signals: np.ndarray, group: str = "drift") -> tuple[int, Alarm] | None:
    for number, row in enumerate(signals):
        watcher.update(1_000 + number, row)
        if watcher.excess(group, RATE) > 1:
            return number, watcher.alarm(group, RATE)
    return None


@pytest.mark.parametrize(("shift", "within", "off"), [(2.5, 60, 20), (4.5, 12, 4)])
def test_a_shift_is_found_soon_and_its_onset_told(reference: Reference, shift: float, within: int, off: int) -> None:
    for seed in range(20, 26):
        watcher = Watcher(reference.streams[""], NAMES)
        found = first_alarm(watcher, stream(300, 0.5, seed, shift, since=150))
        assert found is not None
        number, alarm = found
        assert 150 <= number <= 150 + within and abs(alarm.onset - 1_150) <= off
        assert alarm.shifts[0][0] == "luminance" and alarm.shifts[0][1] < 0 and alarm.value > alarm.threshold


def test_image_quality_says_which_signal(reference: Reference) -> None:
    watcher = Watcher(reference.streams[""], NAMES)
    found = first_alarm(watcher, stream(300, 0.5, 20, 4.0, since=150), "image_quality")
    assert found is not None and found[1].detector.endswith("/single") and found[1].shifts[0][0] == "luminance"


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_chance_keeps_to_its_rate(memory: float) -> None:
    """Six references, 12,000 frames: 1.2 false alarms are promised; six or more have a probability of .2 %."""
    alarms = 0
    for seed in range(6):
        known = Reference.fit(stream(400, memory, 100 + seed), NAMES).streams[""]
        watcher, departure = Watcher(known, NAMES), Departure()
        for number, row in enumerate(stream(2_000, memory, 200 + seed)):
            watcher.update(number, row)
            alarms += departure.begins(watcher.excess("drift", RATE))
    assert alarms <= 5


def test_one_odd_frame_is_no_drift_and_a_missing_one_is_none(reference: Reference) -> None:
    watcher = Watcher(reference.streams[""], NAMES)
    signals = stream(200, 0.5, 30)
    signals[100], signals[120:130] = np.nan, np.nan
    signals[150] = 0.0
    assert first_alarm(watcher, signals[:150]) is None
    watcher.update(1, np.full(5, np.nan))
    assert np.isfinite(watcher.statistics).all()


def test_a_stream_that_comes_back_is_within_its_thresholds_again(reference: Reference) -> None:
    watcher = Watcher(reference.streams[""], NAMES)
    first_alarm(watcher, stream(60, 0.5, 20, 4.0, since=20))
    for number, row in enumerate(stream(600, 0.5, 40)):
        watcher.update(number, row)
    assert watcher.excess("drift", RATE) < 1


def test_an_onset_beyond_memory_is_said_to_be_earlier(reference: Reference) -> None:
    watcher = Watcher(reference.streams[""], NAMES)
    for number, row in enumerate(stream(800, 0.5, 41, shift=1.5)):
        watcher.update(number, row)
    alarm = watcher.alarm("drift", RATE)
    assert alarm.onset_is_earlier == (alarm.onset == 800 - 512)


def test_what_lies_beside_the_embeddings_directions_is_seen(reference: Reference) -> None:
    watcher = Watcher(reference.streams[""], NAMES)
    signals, strange = stream(80, 0.5, 50), vectors(80, 50, shift=1.0)
    usual = vectors(80, 50)
    for number in range(80):
        watcher.update(number, signals[number], usual[number])
    assert watcher.excess("drift", RATE) < 1
    for number in range(30):
        watcher.update(80 + number, signals[number], strange[number])
    assert watcher.excess("drift", RATE) > 1 and "/embedding/" in watcher.alarm("drift", RATE).detector


def test_streaming_and_simulation_calculate_the_same(reference: Reference) -> None:
    """Thresholds come from the one, alarms from the other."""
    normal = reference.streams[""]
    signals, embeddings = stream(100, 0.5, 60), vectors(100, 60)
    scores = normal.scores.of(signals[:, normal.scores.columns(NAMES)], embeddings)
    batch = Moments(*(getattr(normal.moments, name)[None] for name in Moments.__slots__))
    averages, alone, steps = _statistics(scores[None], batch, normal.scores.parts, normal.scores.singles)
    expected = np.concatenate([averages, _cusum(np.minimum(steps, STEP_CAP) - ALLOWANCE), alone], axis=1)[0]
    watcher, largest = Watcher(normal, NAMES), np.zeros(len(expected))
    for number in range(100):
        watcher.update(number, signals[number], embeddings[number])
        largest = np.maximum(largest, watcher.statistics)
    # The simulation begins a frame later, when there is one before.
    assert np.allclose(largest, expected, rtol=0.35, atol=0.2)
