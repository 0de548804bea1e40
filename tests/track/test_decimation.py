"""Decimation keeps what it must, whatever comes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.track import Decimator, Interval

LEVELS = (1, 10, 60)
FRAMES = st.lists(
    st.tuples(
        st.integers(0, 2),  # stream
        st.integers(-2 * 10**9, 40 * 10**9),  # time since the frame before; clocks of two threads may cross
        st.lists(st.one_of(st.floats(width=32), st.just(float("nan"))), min_size=2, max_size=2),
        st.booleans(),
    ),
    max_size=120,
)


def play(frames: list[tuple[int, int, list[float], bool]]) -> tuple[list[Interval], Decimator]:
    """Everything that closes, and what is open at the end."""
    decimator = Decimator(LEVELS)
    closed, now = [], 10**15
    for number, (stream, step, values, raised) in enumerate(frames, start=1):
        now += step
        frame = Interval.of_frame(stream, number, number, now, now, raised, np.array(values, np.float32))
        closed += decimator.add(frame)
    return closed, decimator


@settings(max_examples=200, deadline=None)
@given(FRAMES)
def test_counts_add_up_on_every_level_and_for_every_stream(frames: list[tuple[int, int, list[float], bool]]) -> None:
    closed, decimator = play(frames)
    totals: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0, 0, 0])
    for each in (*closed, *decimator.unfinished()):
        total = totals[each.stream, each.seconds]
        total[0] += each.frames
        total[1] += each.raised
        total[2] += int(each.count[0])
    for stream in {stream for stream, *_ in frames}:
        own = [(values, raised) for which, _, values, raised in frames if which == stream]
        expected = [len(own), sum(raised for _, raised in own), sum(np.isfinite(v[0]) for v, _ in own)]
        for seconds in LEVELS:
            assert totals[stream, seconds] == expected


@settings(max_examples=200, deadline=None)
@given(FRAMES)
def test_the_mean_lies_between_the_extremes_and_the_extremes_are_values(
    frames: list[tuple[int, int, list[float], bool]],
) -> None:
    closed, decimator = play(frames)
    values = {float(np.float32(value)) for _, _, both, _ in frames for value in both if np.isfinite(value)}
    for each in (*closed, *decimator.unfinished()):
        there = each.count > 0
        with np.errstate(over="ignore"):
            low, mean, high = (part[there].astype(np.float32) for part in (each.low, each.mean, each.high))
        assert np.all(low <= mean) and np.all(mean <= high)
        assert set(each.low[there]) | set(each.high[there]) <= values
        assert np.all(np.isnan(each.mean[~there]))


@settings(max_examples=200, deadline=None)
@given(FRAMES)
def test_intervals_begin_at_multiples_and_never_open_again(frames: list[tuple[int, int, list[float], bool]]) -> None:
    closed, decimator = play(frames)
    last: dict[tuple[int, int], int] = {}
    for each in (*closed, *decimator.unfinished()):
        assert each.start_ns % (each.seconds * 10**9) == 0
        key = each.stream, each.seconds
        assert each.start_ns > last.get(key, -1)
        last[key] = each.start_ns


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=300))
def test_the_coarse_mean_is_the_mean_of_all_frames(values: list[float]) -> None:
    decimator = Decimator((1, 10, 1_000_000))
    for number, value in enumerate(values, start=1):
        moment = number * 700_000_000
        decimator.add(Interval.of_frame(0, number, number, moment, moment, False, np.array([value], np.float32)))
    [coarse] = [each for each in decimator.unfinished() if each.seconds == 1_000_000]
    assert np.isclose(coarse.mean[0], np.mean(values), atol=1e-9)
    assert coarse.first_frame == 1 and coarse.last_row == len(values)


def test_memory_is_one_interval_a_level_and_stream() -> None:
    _, decimator = play([(number % 3, 10**8, [0.5, 0.5], False) for number in range(5_000)])
    assert len(decimator.unfinished()) == 9
