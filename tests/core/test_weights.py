"""A bundle never names weights that nobody can vouch for: late changes are noticed before a window is sealed."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from recorder import triggers

SIZED = torch.zeros(1, 16)
NEVER_NS = 2**62


@pytest.fixture
def unwatched(make_recorder: Any, net: Any) -> Any:
    """Return a recorder and its model, whose own looks at the weights are far apart, as those of large models are."""
    recorder = make_recorder(triggers=[triggers.exception()], post_frames=0)
    recorder.attach(net, store=False)
    net(SIZED)
    assert recorder.flush(120)
    [attached] = recorder._attached
    attached._sum_due_ns = attached._full_due_ns = NEVER_NS
    return recorder, net


def change(net: Any) -> None:
    with torch.no_grad():
        net.body.bias.add_(1.0)


def test_a_change_that_no_call_noticed_is_noticed_when_somebody_triggers(unwatched: Any, bundles: Any) -> None:
    """The call ran with new weights under the old name; the bundle does not repeat that."""
    recorder, net = unwatched
    change(net)
    net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    assert [call.model for call in bundle.manifest.calls][1] > 2**32
    models = {model.id: model for model in bundle.manifest.models}
    first, second = [models[call.model] for call in bundle.manifest.calls]
    assert first.weights is not None and first.problems == ()
    assert second.weights is None and "noticed only later" in second.problems[0]


def test_the_sealer_waits_for_the_comparison_after_a_trigger_of_its_own(unwatched: Any, bundles: Any) -> None:
    """An exception is found in the sealer's process, which cannot see the weights: the host compares every second."""
    recorder, net = unwatched
    change(net)
    with pytest.raises(ValueError), recorder.frame():
        net(SIZED)
        raise ValueError("after the call")
    deadline = time.monotonic() + 120
    while not bundles():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [call] = [call for call in bundles()[0].manifest.calls if call.id == 2]
    [model] = [model for model in bundles()[0].manifest.models if model.id == call.model]
    assert model.weights is None and "noticed only later" in model.problems[0]


def test_a_bundle_says_which_calls_were_not_looked_at_again(unwatched: Any, bundles: Any) -> None:
    """A host that hangs or died compares nothing any more. Its weights are named, with that said beside them."""
    recorder, net = unwatched
    recorder._session._weights._due_ns = NEVER_NS
    with pytest.raises(ValueError), recorder.frame():
        net(SIZED)
        raise ValueError("after the call")
    assert recorder.flush(120)
    [model] = bundles()[0].manifest.models
    assert model.weights is not None
    assert model.problems == (
        "Its weights were not compared again after its last call here had begun: a change then is not seen.",
    )


def test_what_was_compared_is_not_doubted(unwatched: Any, bundles: Any) -> None:
    """No change, no word; and nothing is compared twice."""
    recorder, net = unwatched
    net(SIZED)
    recorder.trigger("look").wait(120)
    [model] = bundles()[0].manifest.models
    assert model.weights is not None and model.problems == ()
    [attached] = recorder._attached
    told, attached.compare = recorder._session._weights._told, None
    recorder.trigger("again")
    assert told == recorder._session.calls_begun and recorder.stats().errors == {}
