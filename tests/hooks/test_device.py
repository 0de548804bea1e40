"""Copies from a GPU, with a stand-in for streams, events and pinned memory: order, room, and nothing that waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.capture import device
from recorder.capture.device import Arena, Copy, memory_of
from recorder.capture.leaf import tensor_leaf


@dataclass
class Event:
    """Done when the device has got so far."""

    happened: bool = False

    def query(self) -> bool:
        return self.happened


@dataclass
class StandIn:
    """A device that copies when it is told to, as a stream does in its own time."""

    room: int = 100
    enqueued: list[tuple[Copy, torch.Tensor]] = field(default_factory=list)
    taken: int = 0

    def start(self, tensor: torch.Tensor) -> Copy | None:
        if self.taken >= self.room:
            return None
        self.taken += 1
        place = torch.zeros(tensor.numel() * tensor.element_size(), dtype=torch.uint8)
        version = None if tensor.is_inference() else tensor._version
        self.enqueued.append((Copy(place, Event(), tensor, version), tensor))
        return self.enqueued[-1][0]

    def release(self, copy: Copy) -> None:
        self.taken -= 1

    def advance(self, number: int | None = None) -> None:
        for copy, tensor in self.enqueued[:number]:
            copy.place.copy_(memory_of(tensor))
            copy.done.happened = True  # type: ignore[attr-defined]
        del self.enqueued[:number]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Take float32 tensors for tensors on a GPU."""
    made = StandIn()
    monkeypatch.setattr("recorder.capture.leaf.is_remote", lambda tensor: tensor.dtype is torch.float32)
    monkeypatch.setattr(device, "copies", lambda: made)
    return made


class Twice(torch.nn.Module):
    """Two arguments, so that no call takes the short way of plain CPU tensors."""

    def forward(self, x: torch.Tensor, by: int) -> torch.Tensor:
        return x * by


def test_a_call_is_kept_whole_once_the_device_is_done(make_recorder: Any, bundles: Any, stand_in: StandIn) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(Twice(), store=False)
    x = torch.arange(6.0).reshape(2, 3)
    with recorder.frame(number=1):
        y = model(x, by=2)
    assert len(stand_in.enqueued) == 2 and stand_in.taken == 2
    stand_in.advance()
    recorder.trigger("look").wait(120)
    assert stand_in.taken == 0
    [bundle] = bundles()
    [call] = bundle.manifest.calls
    assert bundle.array(call.args.items[0]).tobytes() == x.numpy().tobytes()
    assert bundle.array(call.output).tobytes() == y.numpy().tobytes()
    assert recorder.stats().frames_lost == {}


def test_records_are_committed_in_their_order_and_never_before_their_bytes(
    make_recorder: Any, stand_in: StandIn
) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(Twice(), store=False)
    for number in range(3):
        model(torch.full((4,), float(number)), by=2)
    session = recorder._session
    late = session.records.late
    assert len(late) == 6
    late.drain()
    assert len(late) == 6
    stand_in.enqueued[1][0].done.happened = True  # type: ignore[attr-defined]  # out of order: the first is not done
    late.drain()
    assert len(late) == 6
    stand_in.advance(4)
    late.drain()
    assert len(late) == 2
    stand_in.advance()
    late.drain()
    assert len(late) == 0 and stand_in.taken == 0


def test_without_room_the_call_is_kept_without_its_tensors_and_nobody_waits(
    make_recorder: Any, bundles: Any, stand_in: StandIn
) -> None:
    stand_in.room = 1
    recorder = make_recorder(triggers=[])
    model = recorder.attach(Twice(), store=False)
    model(torch.ones(4), by=2)
    stand_in.advance()
    recorder.trigger("look").wait(120)
    [call] = bundles()[0].manifest.calls
    assert call.status == "returned" and "could not be copied from its device" in call.output.type
    lost = recorder.stats().frames_lost
    assert lost["device-copy-refused"] == 1 and lost["output-not-recorded"] == 1


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5)])
def test_an_image_on_the_device_is_kept_like_one_on_the_host(
    make_recorder: Any, bundles: Any, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    """A view too, such as channels last of what a decoder on the GPU gave."""
    monkeypatch.setattr(device, "is_remote", lambda tensor: tensor.dtype is torch.uint8)
    recorder = make_recorder(triggers=[])
    image = (
        torch.arange(60, dtype=torch.uint8)[: np.prod(shape)]
        .reshape(*reversed(shape))
        .permute(*reversed(range(len(shape))))
    )
    with recorder.frame(image=image):
        assert len(stand_in.enqueued) == 1
    stand_in.advance()
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    [frame] = bundle.manifest.frames
    assert np.array_equal(bundle.pixels(frame.images[0]), image.numpy()) and frame.lost == {}


def test_an_image_on_the_device_without_room_is_described_and_counted(
    make_recorder: Any, bundles: Any, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame stays, with the image's size."""
    monkeypatch.setattr(device, "is_remote", lambda tensor: tensor.dtype is torch.uint8)
    stand_in.room = 0
    recorder = make_recorder(triggers=[])
    with recorder.frame(image=torch.zeros(4, 5, 3, dtype=torch.uint8)):
        pass
    recorder.trigger("look").wait(120)
    [frame] = bundles()[0].manifest.frames
    assert frame.images == () and frame.images_left_out[0].width == 5 and frame.images_left_out[0].sha256 is None
    lost = recorder.stats().frames_lost
    assert lost["device-copy-refused"] == 1 and lost["image-not-recorded"] == 1


def test_a_source_that_was_written_in_place_meanwhile_is_given_up(make_recorder: Any, stand_in: StandIn) -> None:
    recorder = make_recorder(triggers=[])
    model = recorder.attach(Twice(), store=False)
    buffer = torch.ones(4)
    model(buffer, by=2)
    buffer.fill_(7.0)
    stand_in.advance()
    recorder._session._report_losses()
    assert recorder.stats().frames_lost["device-overwritten"] == 1


def test_what_is_under_way_at_the_end_is_waited_for_only_so_long(make_recorder: Any, stand_in: StandIn) -> None:
    recorder = make_recorder(triggers=[])
    recorder.attach(Twice(), store=False)(torch.ones(4), by=2)
    recorder.disable()
    assert stand_in.taken == 2


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).reshape(2, 3, 4),
        torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        torch.arange(24.0).reshape(4, 6)[:, ::2],
        torch.arange(6).to(torch.bfloat16),
        torch.tensor([1 + 2j, 3 - 1j]).conj(),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.tensor(3.5),
    ],
)
def test_the_bytes_are_those_that_the_copy_on_the_host_would_have(tensor: torch.Tensor) -> None:
    leaf, described = tensor_leaf(tensor)  # type: ignore[misc]
    expected = np.zeros(leaf.size_bytes, np.uint8)
    leaf.copy_to(expected.ctypes.data)
    assert memory_of(tensor).numpy().tobytes() == expected.tobytes()
    assert described["size_bytes"] == leaf.size_bytes


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 900), st.none()), max_size=60))
def test_places_in_the_arena_never_overlap(steps: list[int | None]) -> None:
    """An integer takes so many bytes, None gives the oldest place back."""
    arena = Arena(1024)
    taken: list[tuple[int, int]] = []
    for size in steps:
        if size is None:
            if taken:
                taken.pop(0)
                arena.release_oldest()
            continue
        start = arena.take(size)
        if start is None:
            assert taken, "an empty arena has room for all of these"
            continue
        end = start + size
        assert start % 64 == 0 and end <= 1024
        assert all(end <= other or start >= other_end for other, other_end in taken)
        taken.append((start, max(end, start + 1)))
