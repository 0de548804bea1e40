"""What could not be brought to the sink while its host lives is tried again, for a while; nobody is held up by it."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.sealer import orders, own_process, sealing
from recorder.sealer.own_process import expendable
from recorder.sealer.sealing import Sealing
from recorder.sinks import DirectorySink, SinkUnavailable
from tests.waiting import wait_for

Told = list[dict[str, Any]]


class _Theirs(Sealing):
    """Its bundles are empty; for so many times as an incident's id says, the sink is full."""

    attempts: dict[str, int]

    def _seal(self, window: Any, report: Any) -> str:
        name = window.incident.id
        self.attempts[name] = self.attempts.get(name, 0) + 1
        if self.attempts[name] <= int(name.split("-")[1]):
            raise SinkUnavailable("full")
        return f"/{name}"


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def full(tmp_path: Path) -> Iterator[_Theirs]:
    made = _Theirs(DirectorySink(tmp_path), None)
    made.attempts = {}
    yield made
    made.stop()


def submit(made: Sealing, name: str, told: Told, host_is_there: Callable[[], bool] = lambda: True) -> None:
    incident = types.SimpleNamespace(id=name, opened_ns=0)
    latched = types.SimpleNamespace(awaited=lambda contexts, models: False)
    window: Any = types.SimpleNamespace(
        incident=incident, latched=latched, unverified_calls={}, contexts=set(), models=set(), release=lambda: None
    )
    made.submit(window, told.append, host_is_there=host_is_there)


def endings(told: Told) -> list[tuple[str, str]]:
    return [(each["event"], each["incident"]) for each in told if each["event"] != "sealing"]


def test_a_sink_that_is_full_for_a_moment_costs_a_living_host_no_incident(
    full: _Theirs, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried so often and no more; a sealer that ended meanwhile would have begun it once."""
    monkeypatch.setattr(orders, "AGAIN_SECONDS", (0.0, 0.0, 0.0))
    submit(full, "passing-3", told)
    submit(full, "lasting-4", told)
    wait_for(lambda: not full.pending)
    assert sorted(endings(told)) == [("failed", "lasting-4"), ("sealed", "passing-3")]
    assert full.attempts == {"passing-3": 4, "lasting-4": 4}
    assert len([each for each in told if each["event"] == "sealing"]) == 2


def test_those_that_wait_hold_nobody_up_and_are_few(full: _Theirs, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "AGAIN_SECONDS", (3_600.0,))
    monkeypatch.setattr(orders, "MAX_AGAIN", 1)
    submit(full, "one-1", told)
    submit(full, "another-1", told)
    submit(full, "third-0", told)
    wait_for(lambda: full.pending == 1)
    assert endings(told) == [("failed", "another-1"), ("sealed", "third-0")]


@pytest.mark.parametrize("why", ["hurried", "stopped", "gone"])
def test_who_waits_to_hear_how_it_went_hears_it_at_once(
    full: _Theirs, told: Told, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that flushes, and a host that ends: then the ring itself is kept."""
    monkeypatch.setattr(orders, "AGAIN_SECONDS", (3_600.0, 3_600.0))
    gone = threading.Event()
    submit(full, "look-9", told, lambda: not gone.is_set())
    wait_for(lambda: bool(full.attempts))
    match why:
        case "hurried":
            full.hurry()
        case "stopped":
            full.stop()
        case "gone":
            gone.set()
    wait_for(lambda: not full.pending)
    assert endings(told) == [("failed", "look-9")]


def test_a_sink_that_does_not_return_is_told_of(tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SINK_PATIENCE_SECONDS", 0.0)
    made = Sealing(DirectorySink(tmp_path), None)
    with made._watched(told.append):
        wait_for(lambda: bool(told))
    made.stop()
    assert [each["reason"] for each in told] == ["sink-hangs"]


def test_a_sealer_at_work_is_ended_before_its_service_for_want_of_memory() -> None:
    """And only while it is at work: a service that outgrows its limit must not take its sealer along."""
    before = own_process.OOM_SCORE.read_bytes()
    with expendable():
        assert own_process.OOM_SCORE.read_bytes().strip() == b"1000"
    assert own_process.OOM_SCORE.read_bytes() == before


def test_a_kernel_that_keeps_no_score_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "OOM_SCORE", tmp_path / "none")
    with expendable():
        pass
