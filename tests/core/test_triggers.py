"""Which frames open an incident, which join it, and which window it gets."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from recorder import triggers

SIZED = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def kinds(bundle: Any) -> list[str]:
    return [trigger.kind for trigger in bundle.manifest.incident.triggers]


def test_an_exception_is_sealed_with_type_stage_and_input_and_still_reaches_the_caller(
    make_recorder: Any, bundles: Any, net: Any
) -> None:
    recorder = make_recorder()
    recorder.attach(net, store=False)
    with recorder.frame():
        net(SIZED)
    net.fail = ValueError("bad lens")
    with pytest.raises(ValueError, match="bad lens"), recorder.frame(n=2):
        net(SIZED)
    recorder.flush(120)
    [bundle] = bundles()
    assert kinds(bundle) == ["exception"]
    good, bad = bundle.manifest.frames
    assert good.status == "complete" and bad.status == "raised"
    assert bundle.manifest.incident.triggers[0].frame == bad.id
    [call] = [call for call in bundle.manifest.calls if call.id in bad.calls]
    assert call.status == "raised" and call.exception.type == "builtins.ValueError"
    assert call.exception.message == "bad lens" and call.exception.stage == "model"
    assert any(entry.startswith("tests.core.conftest:TinyNet.forward:") for entry in call.exception.traceback)
    assert bad.exception.type == "builtins.ValueError"


def test_an_exception_outside_the_model_is_of_the_frame(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder()
    with pytest.raises(KeyError), recorder.frame():
        raise KeyError("class 9")
    recorder.flush(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    assert frame.exception.stage == "frame" and frame.exception.type == "builtins.KeyError"


def test_a_model_called_while_an_old_exception_is_handled_has_not_raised(
    make_recorder: Any, bundles: Any, net: Any
) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    try:
        raise OSError("camera gone")
    except OSError:
        net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert bundle.manifest.calls[0].status == "returned"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_values_in_an_output_are_found(make_recorder: Any, bundles: Any, net: Any, bad: float) -> None:
    recorder = make_recorder()
    recorder.attach(net, store=False)
    net(SIZED)
    with torch.no_grad():
        net.body.bias[0] = bad
    net(SIZED)
    recorder.flush(120)
    [bundle] = bundles()
    [trigger] = bundle.manifest.incident.triggers
    assert trigger.kind == "non_finite" and trigger.value == 1.0 and trigger.parameters["part"] == "output"


@pytest.mark.parametrize(
    ("answer", "arguments", "fires"),
    [
        (torch.tensor([[0.2, 0.1, 0.0]]), {"below": 0.5}, True),
        (torch.tensor([[9.0, 0.1, 0.0]]), {"below": 0.5}, False),
        (torch.tensor([[0.4, 0.3, 0.3]]), {"below": 0.5}, True),
        (
            {"boxes": torch.ones(2, 4), "scores": torch.tensor([0.3, 0.2])},
            {"below": 0.5},
            True,
        ),
        ({"boxes": torch.ones(0, 4), "scores": torch.zeros(0), "labels": torch.ones(0)}, {"below": 0.5}, False),
        ({"aux": torch.zeros(1, 3), "head": torch.tensor([[9.0, 0.0]])}, {"below": 0.9, "key": "aux"}, True),
        ({"aux": torch.zeros(1, 3), "head": torch.tensor([[9.0, 0.0]])}, {"below": 0.9, "key": "head"}, False),
    ],
)
def test_low_confidence_understands_logits_probabilities_and_detections(
    make_recorder: Any, bundles: Any, answer: Any, arguments: dict[str, Any], fires: bool
) -> None:
    class Fixed(torch.nn.Module):
        def forward(self) -> Any:
            return answer

    recorder = make_recorder(triggers=[triggers.low_confidence(**arguments)])
    recorder.attach(Fixed(), store=False)()
    recorder.flush(120)
    assert [kinds(bundle) for bundle in bundles()] == ([["low_confidence"]] if fires else [])


def test_low_confidence_for_frames_waits_for_a_run(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[triggers.low_confidence(below=0.5, key="score", for_frames=3)], post_frames=0)
    ids = []
    for score in (0.1, 0.1, 0.9, 0.1, 0.1, 0.1):
        with recorder.frame(camera="a") as frame:
            frame.output = {"score": score}
            ids.append(frame.id)
    recorder.flush(120)
    [bundle] = bundles()
    [trigger] = bundle.manifest.incident.triggers
    assert trigger.frame == ids[-1] and trigger.value == 0.1 and trigger.parameters["source"] == "answer"


def test_when_fires_on_a_predicate_and_counts_one_that_raises(make_recorder: Any, bundles: Any) -> None:
    def slow_lane(frame: Any) -> str | None:
        return "lane 7" if frame.metadata.get("lane") == 7 else None

    def broken(frame: Any) -> bool:
        raise RuntimeError("never seen")

    recorder = make_recorder(triggers=[triggers.when(slow_lane), triggers.when(broken)])
    for lane in (1, 7):
        with recorder.frame(lane=lane):
            pass
    recorder.flush(120)
    [bundle] = bundles()
    [trigger] = bundle.manifest.incident.triggers
    assert (trigger.kind, trigger.reason, trigger.parameters["name"]) == ("when", "lane 7", "slow_lane")
    assert recorder.stats().errors["trigger-raised: RuntimeError"] == 2


def test_the_window_closes_by_count_and_streams_do_not_mix(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(pre_frames=2, post_frames=3, post_seconds=60, triggers=[])
    for n in range(6):
        for camera in ("left", "right"):
            with recorder.frame(camera=camera, n=n):
                if (n, camera) == (2, "left"):
                    incident = recorder.trigger("now")
    incident.wait(120)
    [bundle] = bundles()
    assert [(frame.stream, frame.metadata["n"]) for frame in bundle.manifest.frames] == [
        ("left", n) for n in (0, 1, 2, 3, 4, 5)
    ]
    assert bundle.manifest.incident.window.closed_by == "frames"
    assert bundle.manifest.incident.stream == "left"


def test_the_window_of_an_idle_stream_closes_by_time(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(post_frames=100, post_seconds=0.3, triggers=[])
    with recorder.frame():
        pass
    recorder.trigger("now").wait(120)
    [bundle] = bundles()
    assert bundle.manifest.incident.window.closed_by == "seconds"


def test_overlapping_triggers_become_one_incident_that_lists_them_all(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(triggers=[triggers.exception()], post_frames=5, post_seconds=60)
    handles = []
    for n in range(3):
        with recorder.frame(camera="a", n=n):
            handles.append(recorder.trigger(f"reason {n}"))
    assert recorder.flush(120)
    [bundle] = bundles()
    assert [trigger.reason for trigger in bundle.manifest.incident.triggers] == ["reason 0", "reason 1", "reason 2"]
    assert len({handle.wait(120).path for handle in handles}) == 1 and handles[2].state == "sealed"


def test_the_same_trigger_is_quiet_during_its_cooldown_and_counted(make_recorder: Any, bundles: Any) -> None:
    recorder = make_recorder(post_frames=0, cooldown_seconds=3600)
    for _ in range(3):
        with pytest.raises(ValueError), recorder.frame():
            raise ValueError
        recorder.flush(120)
    assert len(bundles()) == 1
    stats = recorder.stats()
    assert stats.incidents_suppressed == {"cooldown": 2} and stats.incidents_sealed == 1


def test_a_trigger_never_waits(make_recorder: Any) -> None:
    recorder = make_recorder(post_seconds=300, post_frames=100)
    started = time.monotonic()
    assert recorder.trigger("now").state in ("pending", "open")
    assert time.monotonic() - started < 150


@pytest.mark.parametrize(
    "make",
    [
        lambda: triggers.low_confidence(below=0),
        lambda: triggers.low_confidence(below=1.5),
        lambda: triggers.low_confidence(below=0.5, for_frames=0),
        lambda: triggers.when("not a function"),  # type: ignore[arg-type]
    ],
)
def test_wrong_arguments_of_triggers_are_refused_at_once(make: Any) -> None:
    with pytest.raises(ValueError):
        make()
