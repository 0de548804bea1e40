"""Windows of answers against a reference: tails as in the books, chance within its rate, shifts named."""

from __future__ import annotations

import numpy as np
import pytest

from recorder.drift.answers import (
    bimodality,
    chi_squared_tail,
    independent_share,
    kolmogorov_tail,
    learn_answers,
)
from tests.drift.conftest import stream


def answers(frames: int, memory: float, seed: int) -> tuple[np.ndarray, list[str | None]]:
    signals = stream(frames, memory, seed)
    return signals[:, 4].clip(0, 1), [str(int(value > 0.42)) for value in signals[:, 0]]


def test_tails_are_those_of_the_tables() -> None:
    for value, freedom, p in ((3.841, 1, 0.05), (18.307, 10, 0.05), (0.352, 3, 0.95)):
        assert chi_squared_tail(value, freedom) == pytest.approx(p, abs=1e-3)
    assert kolmogorov_tail(1.36 / np.sqrt(1000), 1000) == pytest.approx(0.05, abs=3e-3)


def test_memory_makes_a_frame_worth_less() -> None:
    assert independent_share(stream(4_000, 0.0, 1)[:, 0]) == pytest.approx(1.0, abs=0.15)
    assert independent_share(stream(4_000, 0.9, 1)[:, 0]) == pytest.approx(0.1 / 1.9, rel=0.5)
    assert bimodality(np.repeat([0.1, 0.9], 20)) == pytest.approx(1.0)


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_chance_keeps_to_its_rate(memory: float) -> None:
    found = 0
    for seed in range(10):
        known = learn_answers(*answers(800, memory, seed))
        assert known is not None
        for window in range(20):
            confidence, classes = answers(100, memory, 1_000 + 20 * seed + window)
            found += known.judge(list(zip(confidence, classes, strict=True)), 0.02) is not None
    assert found <= 10  # of 200, four are allowed for; eleven have a probability of .3 %


def test_what_shifts_is_named() -> None:
    confidence, classes = answers(800, 0.5, 1)
    known = learn_answers(confidence, classes)
    assert known is not None
    surer = known.judge(
        [(min(1.0, number + 0.15), name) for number, name in zip(*answers(100, 0.5, 2), strict=True)], 0.01
    )
    assert surer is not None and surer.what == "confidence" and surer.now > surer.before
    other = known.judge([(number, "7") for number, _ in zip(*answers(100, 0.5, 2), strict=True)], 0.01)
    assert other is not None and other.what == "classes" and other.name == "7" and other.now == 1.0
    halves = known.judge([(0.5 if n % 2 else 0.95, str(n % 2)) for n in range(100)], 0.01)
    assert halves is not None and halves.what == "confidence-humps"


def test_a_window_worth_few_frames_is_not_judged() -> None:
    known = learn_answers(*answers(800, 0.5, 1))
    assert known is not None and known.judge([(0.0, "9")] * 5, 0.01) is None
    assert learn_answers(np.full(100, np.nan), [None] * 100) is None
