"""Code of the host that runs in the middle of the recorder: finalizers, predicates, frames in frames."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from recorder import triggers

SIZED = torch.zeros(1, 16)
PICTURE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Have garbage collected at every other allocation, so that finalizers run wherever they can."""
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*thresholds)


class Finalizing:
    """Part of a cycle; when it is collected it records, triggers and reads the counters, as a host's object may."""

    def __init__(self, recorder: Any, ran: list[int]) -> None:
        self.me = self
        self.recorder = recorder
        self.ran = ran

    def __del__(self) -> None:
        with self.recorder.frame(image=PICTURE, finalizer=True):
            pass
        if len(self.ran) < 4:
            self.recorder.trigger("from a finalizer")
        self.recorder.stats()
        self.ran.append(1)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("eager_collector")
def test_finalizers_that_record_and_trigger_inside_the_recorder_neither_hang_nor_fault(
    make_recorder: Any, net: Any
) -> None:
    """Garbage collection re-enters wherever something is allocated, under the recorder's own locks too."""
    recorder = make_recorder(triggers=[])
    recorder.attach(net, store=False)
    ran: list[int] = []

    def work() -> None:
        for number in range(30):
            Finalizing(recorder, ran)
            with recorder.frame(image=PICTURE, number=number):
                net(SIZED)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert len(ran) == 90
    assert recorder.flush(120)
    stats = recorder.stats()
    assert stats.errors == {} and stats.switched_off is None
    assert stats.frames_recorded >= 180 - sum(stats.frames_lost.values())


def test_a_predicate_may_call_an_attached_model(make_recorder: Any, bundles: Any, net: Any) -> None:
    """Its call is a frame of its own, which no predicate looks at: that would never end."""
    seen: list[int] = []

    def doubtful(frame: Any) -> bool:
        seen.append(frame.id)
        return bool(net(SIZED).numel() == 3)

    recorder = make_recorder(triggers=[triggers.when(doubtful)], post_frames=0, pre_frames=4)
    recorder.attach(net, store=False)
    with recorder.frame(number=1) as frame:
        pass
    assert recorder.flush(120) and seen == [frame.id]
    assert recorder.stats().errors == {} and recorder.stats().frames_recorded == 2
    with recorder.frame(number=2):
        pass
    assert len(seen) == 2
    [bundle] = bundles()[:1]
    assert bundle.manifest.incident.triggers[0].frame == frame.id


def test_a_predicate_that_raised_is_asked_again(make_recorder: Any) -> None:
    """The next frame is looked at as if nothing had been."""

    def broken(frame: Any) -> bool:
        raise KeyError("no such key")

    recorder = make_recorder(triggers=[triggers.when(broken)])
    for _ in range(2):
        with recorder.frame():
            pass
    assert recorder.stats().errors == {"trigger-raised: KeyError": 2}


def test_a_frame_inside_a_frame_is_one_of_its_own_and_calls_join_the_innermost(
    make_recorder: Any, bundles: Any, net: Any
) -> None:
    """A service that cuts a picture into parts; after the inner frame the outer one goes on."""
    recorder = make_recorder(triggers=[], pre_frames=4)
    recorder.attach(net, store=False)
    with recorder.frame(part="outer") as outer:
        net(SIZED)
        with recorder.frame(part="inner") as inner:
            net(SIZED)
        net(SIZED)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    frames = {frame.id: frame for frame in bundle.manifest.frames}
    assert len(frames[outer.id].calls) == 2 and len(frames[inner.id].calls) == 1
    assert {frame.status for frame in frames.values()} == {"complete"} and len(frames) == 2
