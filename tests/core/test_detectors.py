"""The statistics behind `latency` and `output_shift`, against what they must be."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle.codec import value_from_json
from recorder.output_shift import ShiftTest, WindowFigures, f_tail
from recorder.quantile import BIN_RATIO, StreamingQuantile
from recorder.signals import confidence, count_non_finite, reevaluate, top_class


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=200), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_a_streaming_quantile_is_right_to_a_bin_for_any_numbers(numbers: list[float], quantile: float) -> None:
    estimate = StreamingQuantile(quantile, 1_000)
    for number in numbers:
        estimate.add(number)
    exact = sorted(numbers)[max(0, math.ceil(quantile * len(numbers) - 1e-9) - 1)]
    assert exact <= estimate.value() * (1 + 1e-9)
    assert estimate.value() <= exact * BIN_RATIO * (1 + 1e-9)


def test_a_streaming_quantile_follows_and_stays_small() -> None:
    estimate = StreamingQuantile(0.9, 100)
    rng = np.random.default_rng(0)
    for centre in (1.0, 30.0):
        for number in rng.lognormal(math.log(centre), 0.2, 3_000):
            estimate.add(float(number))
    assert estimate.value() == pytest.approx(30.0 * math.exp(1.28 * 0.2), rel=0.15)
    assert len(estimate._bins) < 100 and estimate.count == 6_000
    estimate.add(0.0)
    assert StreamingQuantile(0.5, 10).value() == 0.0


@pytest.mark.parametrize(
    ("f", "d1", "d2", "p"),
    [
        (3.0, 1.0, 7.0, 0.12687036692367),
        (20.0, 1.0, 7.0, 0.0028934951206071),
        (0.1, 3.0, 20.0, 0.9590747827791757),
        (5.0, 10.0, 31.0, 0.0002519177811199),
        (200.0, 1.0, 3.3, 0.0004566366400051),
        (0.0, 1.0, 3.0, 1.0),
    ],
)
def test_the_tail_of_f_is_that_of_the_tables(f: float, d1: float, d2: float, p: float) -> None:
    """Figures of scipy.stats.f.sf."""
    assert f_tail(f, d1, d2) == pytest.approx(p, rel=1e-10)


def windows(count: int, correlation: float, *, shift: float = 0.0, seed: int = 0) -> Iterator[WindowFigures]:
    """Windows of 64 frames of a stream whose confidence and class follow an autoregressive process of order one."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(2, count * 64)) * math.sqrt(1 - correlation**2)
    state = rng.normal(size=2)
    frames = []
    for step in noise.T:
        state = correlation * state + step
        frames.append((1 / (1 + math.exp(shift - 2 - state[0])), str(int(np.digitize(state[1] - shift, [-1, 0, 1])))))
        if len(frames) == 64:
            yield WindowFigures.of(frames)
            frames = []


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_frames_that_resemble_their_neighbours_do_not_raise_the_rate_of_false_alarms(correlation: float) -> None:
    test = ShiftTest()
    alarms = sum(test.judge(window, 0.002) is not None for window in windows(1_500, correlation))
    assert alarms <= 8  # 3 expected; more than 8 in one of 250 runs


@pytest.mark.parametrize(("correlation", "shift"), [(0.0, 1.0), (0.5, 2.0), (0.9, 4.0)])
def test_a_shift_is_found_within_a_few_windows(correlation: float, shift: float) -> None:
    test = ShiftTest()
    for window in windows(40, correlation, seed=1):
        assert test.judge(window, 1e-5) is None
    found = [test.judge(window, 1e-5) for window in windows(6, correlation, shift=shift, seed=2)]
    assert any(found) and found[-1] is not None


def test_what_stays_becomes_normal() -> None:
    """After as many windows as the reference had; until then every window says so. One may be in both."""
    test = ShiftTest()
    for window in windows(20, 0.0):
        test.judge(window, 1e-4)
    reference = test.reference_frames
    alarms = [test.judge(window, 1e-4) is not None for window in windows(60, 0.0, shift=3.0)]
    assert alarms[0] and reference // 64 <= sum(alarms) <= reference // 64 + 1 and not any(alarms[-20:])


def test_one_answer_of_a_class_never_seen_is_no_shift_but_a_window_of_them_is() -> None:
    test = ShiftTest()
    for _ in range(20):
        assert test.judge(WindowFigures.of([(0.9, "cat")] * 64), 1e-3) is None
    assert test.judge(WindowFigures.of([(0.9, "cat")] * 63 + [(0.9, "dog")]), 1e-3) is None
    found = test.judge(WindowFigures.of([(0.9, "dog")] * 64), 1e-5)
    assert found is not None and found.what == "classes" and found.name in ("cat", "dog")
    assert abs(found.now - found.before) > 0.99


def test_answers_without_confidence_or_class_are_no_shift() -> None:
    test = ShiftTest()
    for _ in range(30):
        assert test.judge(WindowFigures.of([(None, None)] * 64), 0.01) is None
    for _ in range(8):
        assert test.judge(WindowFigures.of([(None, "a")] * 32), 0.01) is None


def tensor(shape: list[int], dtype: str = "float32") -> dict[str, object]:
    """The tagged form of a contiguous tensor."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return {
        "tensor": {
            "container": "torch",
            "dtype": dtype,
            "shape": shape,
            "strides": strides,
            "alignment": 0,
            "device": "cpu",
            "offset": 0,
            "size_bytes": size,
            "member": "",
            "encoding": "raw",
            "sha256": "",
        }
    }


def test_the_top_class_of_logits_of_one_number_of_detections_and_of_maps() -> None:
    rows = np.asarray([[0.1, 3.0, 0.2], [9.0, 0.0, 1.0]], np.float32)
    value = value_from_json(tensor([2, 3]))
    assert [top_class(value, {"": rows.tobytes()}, None, row) for row in (0, 1, None)] == ["1", "0", "1"]
    single = value_from_json(tensor([1, 1]))
    for number, expected in ((0.4, "0"), (0.7, "1"), (-3.0, "0"), (4.0, "1")):
        assert top_class(single, {"": np.float32(number).tobytes()}) == expected
    found = value_from_json({"dict": [["labels", tensor([2], "int64")], ["scores", tensor([2])]]})
    parts = {"['labels']": np.asarray([4, 7]).tobytes(), "['scores']": np.asarray([0.2, 0.8], np.float32).tobytes()}
    assert top_class(found, parts) == "7"
    nothing = value_from_json({"dict": [["labels", tensor([0], "int64")], ["scores", tensor([0])]]})
    assert top_class(nothing, {"['labels']": b"", "['scores']": b""}) == "nothing"
    assert top_class(value_from_json(tensor([1, 2, 2, 2])), {"": bytes(32)}) is None
    assert top_class(value_from_json({"scalar": "text"}), {}) is None
    assert top_class(value, {"": np.full((2, 3), np.nan, np.float32).tobytes()}) is None


def test_an_empty_tensor_hides_nothing_beside_it() -> None:
    """A detector that found nothing returns empty boxes; a NaN elsewhere is a NaN."""
    value = value_from_json({"tuple": [tensor([0, 4]), tensor([2])]})
    parts = {"[0]": b"", "[1]": np.asarray([np.nan, 1], np.float32).tobytes()}
    assert count_non_finite(value, parts) == 1
    assert confidence(value_from_json({"dict": [["scores", tensor([0])]]}), {"['scores']": b""}) is None


@pytest.mark.parametrize("kind", ["sample", "latency", "frozen_input", "output_shift", "when", "manual", "signal"])
def test_what_a_single_answer_cannot_decide_is_not_decided_at_replay(kind: str) -> None:
    value = value_from_json(tensor([1, 3]))
    assert reevaluate(kind, {"above_ms": 1, "rate": 1.0}, value, {"": bytes(12)}) is None
