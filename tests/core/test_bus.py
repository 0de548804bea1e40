"""One bus: what fires, what joins, what is suppressed and counted, on a clock of the test's own."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder import triggers
from recorder.records import Kind
from recorder.ring import CONTEXTS, EVENTS, FRAMES
from recorder.sealer.evaluators import EVALUATORS
from recorder.sinks import DirectorySink
from tests.core.bus import HOUR, Bus, frames_of
from tests.waiting import wait_for


def picture(seed: int) -> np.ndarray[Any, Any]:
    """A noisy picture, as a sensor gives it."""
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)


# Cooldown, duplicates, caps


def test_a_defect_is_sealed_once_an_hour_and_the_next_bundle_says_how_often_it_recurred(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.exception(), cooldown_seconds=60.0, dedupe_seconds=HOUR) as bus:
        for _ in range(4):
            bus.fail()
            bus.poll(70.0)
        bus.fail(line=8)
        bus.poll(HOUR)
        bus.fail()
        bus.poll(10.0)
    first, other, again = [window.incident for window in bus.sealed]
    assert first.signature == again.signature != other.signature
    assert [incident.recurrences_since_last for incident in (first, other, again)] == [0, 0, 3]
    assert bus.suppressed == {"duplicate": 3}


def test_another_defect_of_the_kind_waits_for_the_cooldown_and_another_stream_for_nothing(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.exception(), cooldown_seconds=60.0, dedupe_seconds=HOUR) as bus:
        bus.fail("left", line=1)
        bus.fail("left", line=2)
        bus.fail("right", line=1)
        bus.poll(61.0)
        bus.fail("left", line=2)
    assert [window.incident.stream for window in bus.sealed] == ["left", "right", "left"]
    assert [window.incident.recurrences_since_last for window in bus.sealed] == [0, 0, 1]


def test_caps_hold_over_all_streams_in_any_hour_and_any_day(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.exception(), max_incidents_per_hour=3, max_incidents_per_day=5) as bus:
        for hour in range(26):
            for stream in range(5):
                bus.fail(f"camera-{stream}", line=10 * hour + stream)
            bus.poll(HOUR)
        assert len(bus.sealed) == 3 + 2 + 3 + 2  # what was opened a day ago counts no more
        assert set(bus.suppressed) == {"hour-cap", "day-cap"}
        assert sum(bus.suppressed.values()) + len(bus.sealed) == 26 * 5


def test_who_asks_is_not_held_back_until_a_loop_does(tmp_path: Path) -> None:
    with Bus(tmp_path, cooldown_seconds=60.0, dedupe_seconds=HOUR, max_incidents_per_hour=1) as bus:
        bus.frame()
        for number in range(12):
            bus.ask(name=f"{number:032x}")
        assert len(bus.sealed) == 10
        told = [event["incident"] for event in bus.events if event["event"] == "suppressed"]
        assert told == [f"{number:032x}" for number in (10, 11)] and bus.suppressed == {"hour-cap": 2}


def test_samples_never_take_the_place_of_incidents(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.sample(1.0), triggers.exception(), max_incidents_per_hour=2) as bus:
        for stream in ("a", "b", "c", "d"):
            bus.frame(stream)
        bus.fail("e")
        bus.fail("f")
        bus.fail("g")
        assert bus.kinds() == [["sample"], ["sample"], ["exception"], ["exception"]]
        bus.flush()
        # Two samples, then on the failing frames one refused sample each; the last exception is refused too.
        assert bus.suppressed == {"hour-cap": 2 + 3 + 1}


def test_a_trigger_on_every_frame_does_not_write_a_line_on_every_frame(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.latency(above_ms=1), dedupe_seconds=HOUR) as bus:
        for _ in range(500):
            bus.frame()
            bus.now += 0.01
        bus.flush()
        assert bus.suppressed == {"duplicate": 499}
        assert len(bus.events) < 12


# Windows


def test_triggers_that_overlap_are_one_incident_with_the_frames_of_the_first(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.exception(), triggers.latency(above_ms=50), post_frames=2) as bus:
        before = [bus.frame() for _ in range(4)]
        during = [bus.fail(), bus.frame(latency=0.1), bus.fail(line=9)]
        after = bus.frame()
        [window] = bus.sealed
    assert [trigger.kind for trigger in window.incident.triggers] == ["exception", "latency", "exception"]
    assert frames_of(window) == before[-2:] + during and after not in frames_of(window)


def test_a_window_waits_for_its_frames_that_are_in_flight_and_takes_no_more_than_asked(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.exception(), post_frames=1) as bus:
        early = bus.begin()
        failed = bus.fail()
        after, beyond = bus.begin(), bus.begin()
        bus.end(after)
        assert not bus.sealed
        bus.end(beyond)
        bus.end(early)
        [window] = bus.sealed
    assert sorted(frames_of(window)) == [early, failed, after]
    assert window.incident.window.closed_by == "frames"


def test_an_operator_outside_the_process_gets_every_stream(tmp_path: Path) -> None:
    with Bus(tmp_path) as bus:
        for stream in ("left", "right", "left"):
            bus.frame(stream)
        bus.ask("operator_file", None)
        bus.ask("manual", None)
        bus.poll(6.0)
    assert [(window.incident.stream, *bus.kinds()[n]) for n, window in enumerate(bus.sealed)] == [
        ("right", "operator_file"),
        ("left", "operator_file"),
        ("left", "manual"),
    ]
    assert len({window.incident.id for window in bus.sealed}) == 3


# sample


def test_a_sample_is_the_same_in_every_service_and_of_the_rate_asked_for(tmp_path: Path) -> None:
    ids = [f"trace-{number}" for number in range(400)]
    picked = []
    for name, by in (("one", "trace_id"), ("other", "request")):
        with Bus(tmp_path / name, triggers.sample(0.1, by=by), pre_frames=0) as bus:
            numbers = {bus.frame(**{by: trace}): trace for trace in ids}
            picked.append([numbers[window.incident.triggers[0].frame] for window in bus.sealed])
    assert picked[0] == picked[1] and 20 < len(picked[0]) < 60
    expected = [id for id in ids if int(hashlib.sha256(id.encode()).hexdigest()[:16], 16) / 2**64 < 0.1]
    assert picked[0] == expected


def test_without_a_trace_id_the_frame_id_decides(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.sample(0.2), pre_frames=0) as bus:
        for number in range(100):
            bus.frame(other=number)
        sampled = [window.incident.triggers[0].frame for window in bus.sealed]
    assert sampled == [
        id for id in range(1, 101) if int(hashlib.sha256(str(id).encode()).hexdigest()[:16], 16) / 2**64 < 0.2
    ]


# latency


def test_latency_above_a_bound_fires_with_what_was_measured(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.latency(above_ms=50)) as bus:
        bus.frame(latency=0.05)
        slow = bus.frame(latency=0.0734)
        [window] = bus.sealed
    [trigger] = window.incident.triggers
    assert trigger.frame == slow and trigger.value == pytest.approx(73.4) and trigger.threshold == 50.0


def test_latency_against_the_streams_own_quantile_waits_until_it_is_known(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with Bus(tmp_path, triggers.latency(quantile=0.99, times=2.0, min_frames=100)) as bus:
        bus.frame("slow", latency=9.0)  # the first call of a model: nothing is known yet
        for _ in range(300):
            bus.frame("slow", latency=float(rng.lognormal(-1.0, 0.1)))
            bus.frame("fast", latency=float(rng.lognormal(-5.0, 0.1)))
        assert not bus.sealed
        bus.frame("slow", latency=0.4)
        late = bus.frame("fast", latency=0.4)
        [window] = bus.sealed
    [trigger] = window.incident.triggers
    assert (window.incident.stream, trigger.frame, trigger.value) == ("fast", late, 400.0)
    assert trigger.threshold == pytest.approx(2e3 * np.exp(-5.0 + 2.33 * 0.1), rel=0.15)


# frozen_input


def test_a_frozen_camera_is_found_on_its_stream_and_a_moving_one_is_not(tmp_path: Path) -> None:
    with Bus(tmp_path, triggers.frozen_input(for_frames=5)) as bus:
        for number in range(12):
            bus.frame("moving", picture(number))
            bus.frame("stuck", picture(min(number, 4)))
            bus.frame("blind")
        first = bus.sealed[0].incident
    assert {window.incident.stream for window in bus.sealed} == {"stuck"}
    assert first.triggers[0].value == 5.0 and first.triggers[0].frame == 3 * 8 + 2


@pytest.mark.parametrize("shape", [(10, 10, 3), (300, 400, 3)])
def test_one_pixel_is_enough_to_be_alive(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Small images are compared whole; of large ones pieces first, and whole when these agree."""
    image = np.zeros(shape, np.uint8)
    with Bus(tmp_path, triggers.frozen_input(for_frames=2), ring_bytes=2**23) as bus:
        for number in range(6):
            image[5, 7, 1] = number
            bus.frame(image=image)
        assert not bus.sealed
        bus.frame(image=image)
        assert len(bus.sealed) == 1


def test_an_image_gone_from_the_ring_is_not_taken_for_a_frozen_one(tmp_path: Path) -> None:
    """The follower came late: the frame before cannot be compared any more."""
    image = np.zeros((300, 400, 3), np.uint8)
    with Bus(tmp_path, triggers.frozen_input(for_frames=2), ring_bytes=2**20) as bus:
        bus.frame("cam", image)
        for number in range(4):
            bus.frame("other", picture(number).repeat(6, axis=0).repeat(6, axis=1))
        bus.frame("cam", image)
        assert not bus.sealed
        bus.frame("cam", image)
        assert len(bus.sealed) == 1


# output_shift


def answers(rng: np.random.Generator, n: int, *, share: float, mean: float) -> list[list[float]]:
    """Softmax answers of two classes: ``share`` of them the first, around a confidence."""
    confidence = np.clip(rng.normal(mean, 0.05, n), 0.5, 1.0)
    return [[c, 1 - c] if rng.random() < share else [1 - c, c] for c in confidence]


@pytest.mark.parametrize(
    ("share", "mean", "what"), [(0.5, 0.6, "confidence"), (0.95, 0.9, "classes"), (0.5, 0.9, None)]
)
def test_output_shift_names_what_changed_on_the_stream_where_it_did(
    tmp_path: Path, share: float, mean: float, what: str | None
) -> None:
    rng = np.random.default_rng(1)
    shift = triggers.output_shift(window=50, false_alarms_per_hour=0.1)
    with Bus(tmp_path, shift) as bus:
        for part in range(2):
            for n, answer in enumerate(answers(rng, 1_000, share=0.5, mean=0.9)):
                other = answers(rng, 1, share=share, mean=mean)[0] if part else answer
                for stream, given_answer in (("a", answer), ("b", other)):
                    bus.frame(stream, answer={"probabilities": np.asarray(given_answer, np.float32)})
                bus.now += 0.04 if n else 0.0
    found = {(window.incident.stream, window.incident.triggers[0].parameters["what"]) for window in bus.sealed}
    assert found == ({("b", what)} if what else set())
    if what:
        [trigger, *_] = bus.sealed[0].incident.triggers
        assert trigger.value is not None and trigger.threshold is not None and trigger.value < trigger.threshold


# The rules and hostile parameters


def test_a_rule_nobody_knows_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    """A ring is written by another process, perhaps of another version."""
    rules = [
        triggers.Trigger("telepathy"),
        triggers.Trigger("latency", {"above_ms": "soon", "min_frames": 0}),
        triggers.exception(),
    ]
    with Bus(tmp_path, *rules) as bus:
        bus.fail()
        assert bus.kinds() == [["exception"]] and bus.lost["trigger-unknown"] == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["begin", "end", "fail", "ask"])), max_size=60))
def test_windows_hold_the_right_frames_of_their_stream_and_every_record_of_them(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """Streams interleave, several frames of a stream are open at once, triggers come from both sides."""
    with Bus(tmp_path_factory.mktemp("bus"), triggers.exception(), pre_frames=2, post_frames=1) as bus:
        running: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        stream_of: dict[int, str] = {}
        for stream, step in steps:
            if step == "begin" and len(running[stream]) < 3:
                number = bus.begin(stream)
                running[stream].append(number)
                stream_of[number] = stream
            elif step == "end" and running[stream]:
                bus.end(running[stream].pop(0))
            elif step == "fail":
                number = bus.fail(stream)
                stream_of[number] = stream
            elif step == "ask":
                bus.ask(stream=stream)
        for number in [number for numbers in running.values() for number in numbers]:
            bus.end(number)
        bus.poll(6.0)
        for window in bus.sealed:
            found = frames_of(window)
            assert len(found) == len(set(found)) <= 2 + 1 + 1
            assert {stream_of[number] for number in found} <= {window.incident.stream}
            ended = [stage.key for stage in window.records if stage.kind == 4]
            assert sorted(ended) == sorted(found)
            about = window.incident.triggers[0].frame
            if about is not None:
                mine = sorted(number for number, stream in stream_of.items() if stream == window.incident.stream)
                place = mine.index(about)
                assert about in found and set(mine[max(0, place - 2) : place]) >= {n for n in found if n < about}


# With a sealer process


class SlowSink(DirectorySink):
    """Publishes its first bundle only when a file "go" lies beside it."""

    def publish(self, path: Path, name: str) -> str:
        """Wait, then do as a directory does."""
        directory = Path(os.environ["SLOW_SINK"])
        while not (directory / "go").exists():
            (directory / "sealing").touch()
            time.sleep(0.01)
        return super().publish(path, name)


def make_slow_sink() -> SlowSink:
    """The factory that the sealer process imports."""
    return SlowSink(Path(os.environ["SLOW_SINK"]) / "incidents")


def test_recording_goes_on_while_an_incident_is_being_sealed(
    make_recorder: Any, bundles: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_SINK", str(tmp_path))
    recorder = make_recorder(sink=f"{__name__}:make_slow_sink", pre_frames=50, post_frames=0, triggers=[])
    with recorder.frame(image=picture(0), n=-1):
        pass
    first = recorder.trigger("first")
    wait_for((tmp_path / "sealing").exists)
    for n in range(40):
        with recorder.frame(image=picture(n), n=n):
            pass
    second = recorder.trigger("second")
    wait_for(lambda: second.state == "open")
    assert first.state == "open"
    (tmp_path / "go").touch()
    assert second.wait(120).state == first.wait(120).state == "sealed"
    by_reason = {bundle.manifest.incident.triggers[0].reason: bundle for bundle in bundles()}
    assert [frame.metadata["n"] for frame in by_reason["second"].manifest.frames] == list(range(-1, 40))
    assert not by_reason["second"].manifest.incident.lost


def test_suppression_and_recurrences_reach_the_host_and_the_bundle(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(post_frames=0, cooldown_seconds=0, dedupe_seconds=1.5)
    raised = 0

    def sealed_twice_after_raising(times: int = 1) -> bool:
        nonlocal raised
        for _ in range(times):
            raised += 1
            with pytest.raises(ValueError), recorder.frame():
                raise ValueError("bad lens")
        assert recorder.flush(120)
        return len(bundles()) == 2

    assert not sealed_twice_after_raising(times=20)  # far more than a second and a half holds up
    wait_for(sealed_twice_after_raising)
    assert recorder.stats().incidents_suppressed == {"duplicate": raised - 2}
    incidents = [bundle.manifest.incident for bundle in bundles()]
    assert sorted(incident.recurrences_since_last for incident in incidents) == [0, raised - 2]
    assert len({incident.signature for incident in incidents}) == 1 and incidents[0].signature is not None


@pytest.mark.parametrize("name", [name for name in triggers.__all__ if name[0].islower()])
def test_every_trigger_is_documented_and_evaluated_somewhere(name: str) -> None:
    """In the sealer, or, where it takes a function of the host, there; never nowhere."""
    page = (Path(__file__).parents[2] / "docs" / "triggers.md").read_text()
    assert f"| `{name}(" in page and getattr(triggers, name).__doc__
    assert (name in EVALUATORS) != (name == "when")


@pytest.mark.parametrize(
    "make",
    [
        lambda: triggers.sample(0),
        lambda: triggers.sample(1.5),
        lambda: triggers.sample(True),
        lambda: triggers.sample(0.5, by=""),
        lambda: triggers.latency(),
        lambda: triggers.latency(50, quantile=0.9),
        lambda: triggers.latency(-1),
        lambda: triggers.latency(quantile=1.0),
        lambda: triggers.latency(quantile=0.9, times=0.5),
        lambda: triggers.latency(50, min_frames=-1),
        lambda: triggers.frozen_input(1),
        lambda: triggers.frozen_input(2.5),  # type: ignore[arg-type]
        lambda: triggers.output_shift(window=2),
        lambda: triggers.output_shift(false_alarms_per_hour=0),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(make: Any) -> None:
    with pytest.raises(ValueError, match=r"\w+\("):
        make()


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_incidents_per_hour": 0},
        {"max_incidents_per_day": 1.5},
        {"max_incidents_per_day": True},
        {"dedupe_seconds": -1},
        {"trigger_file": 7},
        {"trigger_signal": 15},
        {"trigger_signal": "SIGUSR1"},
    ],
)
def test_wrong_limits_are_refused_at_construction(make_recorder: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make_recorder(**arguments)


# A ring is untrusted


@pytest.mark.parametrize("name", ["../../outside", "x" * 32, "0" * 31, "/" + "0" * 31])
def test_an_incident_that_names_a_path_is_passed_over(tmp_path: Path, name: str) -> None:
    """Its id names the spool and the bundle."""
    with Bus(tmp_path) as bus:
        bus.frame()
        bus.ask(name=name)
        assert not bus.events and bus.lost == {"record-malformed": 1}
        bus.ask()
        assert [event["event"] for event in bus.events] == ["opened"]


def test_numbers_that_are_none_do_not_end_the_sealer(tmp_path: Path) -> None:
    """Infinity becomes no integer, and an error of its own kind."""
    with Bus(tmp_path, triggers.exception()) as bus:
        bus._write(FRAMES, Kind.BEGIN, 1, {"stream": "", "time": float("inf")})
        bus._write(EVENTS, Kind.FLUSH, 0, {"flush": float("inf"), "after": 0})
        bus._write(EVENTS, Kind.LOSSES, 0, {"lost": {"x": float("-inf")}})
        bus._write(CONTEXTS, Kind.CONFIG, 0, {"pre_frames": float("inf")})
        bus.poll()
        assert bus.lost == {"record-malformed": 3, "context-malformed": 1}
