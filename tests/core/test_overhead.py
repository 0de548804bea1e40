"""The recorder in a host it costs too much, and in one where nothing of it works."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from recorder.bundle.values import OpaqueValue, TensorValue
from recorder.faults import MAX_FAULTS, WITHIN_SECONDS, FaultRow
from recorder.governor import Admission

IMAGE = np.zeros((8, 8, 3), np.uint8)
GIVEN = torch.zeros(1, 1, 4, 4)


def admit_in_turn(recorder: Any, *admissions: int) -> None:
    """Make the governor say what it would say of a host that is too busy."""
    said = iter(admissions)
    recorder._session.admit = lambda now_ns: next(said)


def test_a_thinned_frame_keeps_its_metadata_structure_and_small_output_and_is_counted(
    make_recorder: Any, bundles: Any, net: Any
) -> None:
    recorder = make_recorder()
    recorder.attach(net, store=False)
    admit_in_turn(recorder, Admission.FULL, *[Admission.WITHOUT_PAYLOAD] * 2, Admission.FULL)
    for number in range(4):
        with recorder.frame(image=IMAGE, camera="a", number=number):
            net(GIVEN)
    assert recorder.stats().frames_lost["payload-thinned"] == 2
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    manifest = bundle.manifest
    assert [len(frame.images) for frame in manifest.frames] == [1, 0, 0, 1]
    assert [frame.metadata["number"] for frame in manifest.frames] == [0, 1, 2, 3]
    assert [type(call.args.items[0]) for call in manifest.calls] == [TensorValue, OpaqueValue, OpaqueValue, TensorValue]
    assert all(isinstance(call.output, TensorValue) for call in manifest.calls)
    assert manifest.incident.lost["payload-thinned"] == 2
    assert [frame.lost for frame in manifest.frames] == [{}, {"payload-thinned": 1}, {"payload-thinned": 1}, {}]


def test_a_frame_that_is_left_out_altogether_is_kept_when_it_raises(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder()
    recorder.attach(net, store=False)
    admit_in_turn(recorder, *[Admission.NOTHING] * 2, Admission.NOTHING)
    for number in range(3):
        net.fail = ValueError("no such class") if number == 1 else None
        try:
            with recorder.frame(image=IMAGE, camera="a", number=number):
                net(GIVEN)
        except ValueError:
            pass
    recorder.flush(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    assert frame.metadata["number"] == 1 and frame.status == "raised" and frame.images == ()
    assert frame.exception is not None and frame.exception.message == "no such class"
    assert bundle.manifest.incident.triggers[0].kind == "exception"
    assert recorder.stats().frames_lost["frame-thinned"] == 3


def test_implicit_frames_and_batches_are_thinned_too(make_recorder: Any, bundles: Any, net: Any) -> None:
    recorder = make_recorder()
    recorder.attach(net, store=False)
    admit_in_turn(recorder, 2, 1, 2, 1, 0)
    net(GIVEN)
    net(GIVEN)
    with recorder.frames(images=[IMAGE, IMAGE]):
        net(GIVEN)
    with recorder.frame(image=IMAGE):
        net(GIVEN)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert len(bundle.manifest.frames) == 3 and len(bundle.manifest.calls) == 3
    assert recorder.stats().errors == {}


def test_an_expensive_recorder_warns_once_and_names_the_affordable_rate(make_recorder: Any, net: Any) -> None:
    recorder = make_recorder(overhead_budget=0.01)
    session = recorder._session
    with pytest.warns(RuntimeWarning, match=r"overhead_budget=0\.01 .* frames per second are affordable") as caught:
        for _ in range(3):
            session.spent_ns += 10**9
            session.governor.due_ns = 0
            with recorder.frame(image=IMAGE):
                pass
    assert len(caught) == 1
    stats = recorder.stats()
    assert stats.payload_interval > 1 and stats.affordable_frames_per_second is not None


@pytest.mark.parametrize("budget", [0, -1, 1.5, "much", True])
def test_a_budget_that_is_no_share_is_refused(make_recorder: Any, budget: Any) -> None:
    with pytest.raises(ValueError, match="overhead_budget"):
        make_recorder(overhead_budget=budget)


def test_the_environment_sets_the_budget(make_recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHT_RECORDER_OVERHEAD_BUDGET", "0.25")
    assert make_recorder()._session.governor.budget == 0.25
    monkeypatch.setenv("FLIGHT_RECORDER_OVERHEAD_BUDGET", "a lot")
    with pytest.raises(ValueError, match="FLIGHT_RECORDER_OVERHEAD_BUDGET"):
        make_recorder()


def test_a_recorder_that_only_fails_switches_itself_off_and_says_so_once(make_recorder: Any, net: Any) -> None:
    recorder = make_recorder()
    recorder.attach(net, store=False)
    plain = net(GIVEN).clone()

    def broken(*_: Any) -> int:
        raise MemoryError("nothing works here")

    recorder._session.admit = broken
    with pytest.warns(RuntimeWarning, match="switched itself off after 100 faults in a row") as caught:
        for _ in range(MAX_FAULTS + 10):
            with recorder.frame(image=IMAGE):
                assert torch.equal(net(GIVEN), plain)
    assert len(caught) == 1
    deadline = time.monotonic() + 120
    while net._forward_hooks or net._forward_pre_hooks:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stats = recorder.stats()
    assert stats.switched_off is not None and "100 faults in a row" in stats.switched_off
    assert stats.errors["begin: MemoryError"] >= MAX_FAULTS // 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with recorder.frame(image=IMAGE):
            net(GIVEN)


def test_faults_with_good_frames_between_them_switch_nothing_off() -> None:
    row = FaultRow()
    for _ in range(10 * MAX_FAULTS):
        assert not row.add(0)
        row.end()
    assert row.total == 10 * MAX_FAULTS


def test_faults_spread_over_hours_switch_nothing_off() -> None:
    row = FaultRow()
    assert not any(row.add(int(number * WITHIN_SECONDS * 1e9 / 50)) for number in range(10 * MAX_FAULTS))


def test_calls_around_a_change_that_was_noticed_late_name_no_weights(make_recorder: Any, bundles: Any) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), *[torch.nn.Linear(16, 16) for _ in range(20)]).eval()
    recorder = make_recorder()
    recorder.attach(net, store=False)
    [attached] = recorder._attached
    net(GIVEN)
    recorder._session.jobs.wait_idle(60)
    attached._sum_due_ns = attached._full_due_ns = 2**62  # as if the last comparison had taken very long
    net(GIVEN)
    with torch.no_grad():
        net[1].weight.add_(1)
    net(GIVEN)
    attached.verify()
    net(GIVEN)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    models = {model.id: model for model in bundle.manifest.models}
    first, *between, last = [models[call.model] for call in bundle.manifest.calls]
    assert first.weights is not None and last.weights is not None and first.weights.digest != last.weights.digest
    assert len(between) == 2 and all(model.weights is None for model in between)
    assert "noticed only later" in between[0].problems[0] and bundle.verify() == []
