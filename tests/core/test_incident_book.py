"""The bookkeeping of windows and limits holds whatever happens in whatever order."""

from __future__ import annotations

import itertools
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.bundle.manifest import Trigger
from recorder.incident import IncidentBook, OpenIncident, WindowPolicy
from recorder.limits import ASKED_FACTOR, ASKED_KINDS, DAY_SECONDS, HOUR_SECONDS, Decision, signature_of

KINDS = ("exception", "latency", "when", "manual", "operator_file", "sample")


def trigger(kind: str = "exception", identity: str = "", severity: str = "normal") -> Trigger:
    """A trigger of a kind; its identity is what the signature is made of."""
    parameters = {"name": identity, "type": identity}
    return Trigger(kind=kind, reason="", frame=None, time_ns=0, severity=severity, parameters=parameters)


def group(kind: str) -> str:
    """The caps a kind counts against."""
    return "asked" if kind in ASKED_KINDS else "sample" if kind == "sample" else "detected"


#: Steps of a bus's life: a trigger on a stream, or time that passes.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(KINDS), st.sampled_from(["x", "y"])),
        st.sampled_from([0.5, 30.0, 61.0, 900.0, 3_500.0, 4_000.0, 50_000.0]),
    ),
    max_size=60,
)
POLICIES = st.builds(
    WindowPolicy,
    cooldown_seconds=st.sampled_from([0.0, 60.0]),
    dedupe_seconds=st.sampled_from([0.0, 3_600.0]),
    max_incidents_per_hour=st.integers(1, 3),
    max_incidents_per_day=st.integers(1, 5),
    post_seconds=st.sampled_from([0.0, 5.0]),
)


@settings(max_examples=300, deadline=None)
@given(POLICIES, STEPS)
def test_every_trigger_opens_joins_or_is_suppressed_for_one_reason_and_no_cap_is_ever_exceeded(
    policy: WindowPolicy, steps: list[tuple[str, str, str] | float]
) -> None:
    book, now = IncidentBook(policy), 100.0
    decisions: dict[Decision, int] = defaultdict(int)
    waiting: dict[tuple[str, str], int] = defaultdict(int)
    expected: dict[str, int] = {}
    opened: dict[str, list[float]] = defaultdict(list)
    closed: list[OpenIncident] = []
    fired = 0
    for number, step in enumerate(steps):
        if isinstance(step, float):
            now += step
            closed += book.due(now)
            continue
        stream, kind, identity = step
        what = trigger(kind, identity)
        was_open = book.open.get(stream)
        decision, incident = book.fire(stream, what, f"{number}", now)
        fired += 1
        decisions[decision] += 1
        key = (stream, signature_of(what))
        if decision in (Decision.OPENED, Decision.JOINED):
            assert incident is not None and (decision is Decision.JOINED) == (was_open is incident)
            expected[incident.id] = expected.get(incident.id, 0) + waiting.pop(key, 0)
        else:
            assert incident is None and was_open is None
            waiting[key] += 1
            assert kind in ("exception", "latency", "when") or decision in (Decision.HOUR_CAP, Decision.DAY_CAP)
        if decision is Decision.OPENED:
            opened[group(kind)].append(now)
    closed += book.close_all("close", now)
    assert sum(decisions.values()) == fired
    assert sum(len(incident.triggers) + incident.more_triggers for incident in closed) == (
        decisions[Decision.OPENED] + decisions[Decision.JOINED]
    )
    assert len({incident.id for incident in closed}) == len(closed) == decisions[Decision.OPENED]
    assert {incident.id: incident.recurrences for incident in closed} == expected
    for name, times in opened.items():
        factor = ASKED_FACTOR if name == "asked" else 1
        for seconds, cap in (
            (HOUR_SECONDS, policy.max_incidents_per_hour),
            (DAY_SECONDS, policy.max_incidents_per_day),
        ):
            for start in times:
                assert sum(start <= moment < start + seconds for moment in times) <= cap * factor


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(0, 5), st.integers(0, 5))
def test_a_window_holds_the_frames_before_the_frame_and_those_that_begin_after_whatever_ends_when(
    data: st.DataObject, pre: int, post: int
) -> None:
    """The frames of one stream, several open at a time as threads have them; one incident about one of them."""
    book = IncidentBook(WindowPolicy(pre_frames=pre, post_frames=post, post_seconds=60))
    ids, known = itertools.count(1), dict[int, bool]()
    incident: OpenIncident | None = None
    wanted: set[int] = set()
    centre = 0
    for _ in range(data.draw(st.integers(1, 40))):
        running = [number for number, ended in known.items() if not ended]
        action = data.draw(st.sampled_from(["begin", "end", "fire"]))
        if action == "begin" and len(running) < 4:
            number = next(ids)
            known[number] = False
            book.frame_began("", number)
            if incident is not None and sum(frame > centre for frame in wanted) < post:
                wanted.add(number)
        elif action == "end" and running:
            number = data.draw(st.sampled_from(running))
            known[number] = True
            book.frame_ended("", number)
        elif action == "fire" and incident is None and known:
            centre = data.draw(st.sampled_from(sorted(known)))
            _, incident = book.fire("", trigger(), "1", 0.0)
            assert incident is not None
            before = [number for number in sorted(known) if number < centre]
            after = [number for number in sorted(known) if number > centre]
            wanted = {*(before[-pre:] if pre else []), centre, *after[:post]}
            assert book.begin_window(incident, known, centre) == sorted(wanted)
        if incident is not None:
            assert incident.frames == wanted
            complete = sum(frame > centre for frame in wanted) == post and all(known[frame] for frame in wanted)
            assert (incident.closed_by == "frames") == complete
            if complete:
                assert book.due(0.0) == [incident]
                return
    assert book.due(59.0) == []
    for late in book.due(60.0):
        assert late.closed_by == "seconds"


def test_a_trigger_about_no_known_frame_is_about_the_newest() -> None:
    """Also before the first frame: then the window is what comes."""
    book = IncidentBook(WindowPolicy(pre_frames=1, post_frames=1))
    _, empty = book.fire("empty", trigger(), "1", 0.0)
    _, late = book.fire("late", trigger(), "2", 0.0)
    assert empty is not None and late is not None
    assert book.begin_window(empty, {}, None) == []
    assert book.begin_window(late, {3: True, 4: True, 5: True}, 1) == [4, 5]
    book.frame_began("empty", 9)
    assert empty.frames == {9} and not empty.closed_by
    book.frame_ended("empty", 9)
    assert empty.closed_by == "frames"


def test_the_signature_names_the_defect_and_not_its_numbers() -> None:
    """Measured values, messages, severity and thresholds are no part of it; what tells defects apart is."""
    one = Trigger(
        kind="low_confidence",
        reason="confidence 0.31",
        frame=3,
        time_ns=5,
        value=0.31,
        parameters={"source": "model", "key": None, "below": 0.5},
    )
    again = Trigger(
        kind="low_confidence",
        reason="confidence 0.12",
        frame=9,
        time_ns=7,
        severity="high",
        value=0.12,
        parameters={"source": "model", "key": None, "below": 0.6},
    )
    other = Trigger(kind="low_confidence", reason="", frame=3, time_ns=5, parameters={"source": "answer", "key": "a"})
    assert signature_of(one) == signature_of(again) != signature_of(other)
    # Of the specification: the signature is the same in every process and version.
    assert signature_of(Trigger(kind="latency", reason="", frame=None, time_ns=0)) == "5cd4dde842e64e26"


def test_many_streams_are_forgotten_but_never_a_cap() -> None:
    """A stream key made of something unique neither grows the book nor lifts the cap."""
    book = IncidentBook(WindowPolicy(max_incidents_per_hour=2, max_incidents_per_day=100))
    counted: dict[Decision, int] = defaultdict(int)
    for number in range(5_000):
        decision, _ = book.fire(f"request-{number}", trigger("when", str(number)), f"{number}", float(number) / 100)
        counted[decision] += 1
        book.close_all("flush", float(number) / 100)
    assert counted == {Decision.OPENED: 2, Decision.HOUR_CAP: 4_998}
    assert len(book.limits._past) < 3_000 and len(book.limits._suppressed) <= 1_024


def test_a_high_severity_is_kept_when_it_joins() -> None:
    """The incident is as severe as its worst trigger, also past the number it lists."""
    book = IncidentBook(WindowPolicy())
    _, incident = book.fire("", trigger(), "1", 0.0)
    assert incident is not None and incident.severity == "normal"
    for _ in range(100):
        book.fire("", trigger(), "2", 0.0)
    book.fire("", trigger(severity="high"), "3", 0.0)
    assert incident.severity == "high" and len(incident.triggers) == 64 and incident.more_triggers == 38
