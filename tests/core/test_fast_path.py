"""What templates write is what the plain path writes, byte for byte of meaning."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.capture import describe
from recorder.frame import Frame
from recorder.head_template import HeadTemplate, Templates, pack_plain_end
from recorder.hooks.usual_call import UsualCalls, tensor_key
from recorder.records import HEAD_LENGTH, pack_head, pack_value, unpack_head

DTYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.bool, torch.complex64]
JSON = st.dictionaries(st.text(max_size=20), st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text())


def parse(data: bytes) -> dict[str, Any]:
    (length,) = HEAD_LENGTH.unpack_from(data)
    assert length == len(data) - HEAD_LENGTH.size
    return unpack_head(data[HEAD_LENGTH.size :])


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Tensors of any dtype, dense and not, views into others included."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    tensor = torch.randn(shape).to(draw(st.sampled_from(DTYPES)))
    if tensor.dim() > 1 and draw(st.booleans()):
        tensor = tensor.transpose(0, draw(st.integers(0, tensor.dim() - 1)))
    if tensor.dim() and draw(st.booleans()):
        tensor = tensor[draw(st.integers(0, 1)) :: draw(st.integers(1, 2))]
    if tensor.is_complex() and draw(st.booleans()):
        tensor = tensor.conj()
    return tensor


class Memory:
    """A session that keeps the one record written last."""

    head: bytes = b""
    payload: bytes = b""

    def write_packed(self, kind: int, key: int, head: bytes, address: int, size_bytes: int) -> bool:
        self.head, self.payload = head, ctypes.string_at(address, size_bytes)
        return True


def plain_input(tensor: torch.Tensor, call: int, frame: int, started: int) -> tuple[dict[str, Any], Any]:
    described = describe(((tensor,), {}, None))
    args, kwargs, _ = described.tagged["tuple"]
    settings = {"training": False, "grad_enabled": True, "inference_mode": False, "autocast": {}}
    head = {"call": call, "model": 3, "context": 0, "frames": (frame,), "parent": None, "settings": settings}
    return {**head, "args": args, "kwargs": kwargs, "rng": None, "started": started}, described


@settings(max_examples=300, deadline=None)
@given(tensors(), tensors(), st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_template_of_one_call_writes_what_the_plain_path_writes_for_the_next(
    first: torch.Tensor, second: torch.Tensor, number: int, started: int
) -> None:
    calls, memory = UsualCalls(), Memory()
    key = tensor_key(first, "rest")
    if key is not None:
        calls.learn_input(key, *plain_input(first, 1, 1, 1))
    for tensor in (second, first, first.clone()):
        key = tensor_key(tensor, "rest")
        if key is None or not calls.write_input(memory, key, number, 7, started):  # type: ignore[arg-type]
            continue  # left to the plain path
        head, described = plain_input(tensor, number, 7, started)
        assert parse(memory.head) == unpack_head(pack_head(head)[0][HEAD_LENGTH.size :])
        expected = ctypes.create_string_buffer(max(1, described.size_bytes))
        described.copy_to(ctypes.addressof(expected))
        assert memory.payload == expected.raw[: described.size_bytes]


@settings(max_examples=100, deadline=None)
@given(tensors(), st.integers(0, 2**63), st.floats(0, 1e6))
def test_an_output_is_written_by_template_as_plainly(tensor: torch.Tensor, number: int, latency: float) -> None:
    calls, memory = UsualCalls(), Memory()
    key, described = tensor_key(tensor), describe(tensor)
    if key is None:
        return
    head = {"call": 1, "frames": (1,), "latency": 0.5, "output": described.tagged}
    calls.learn_output(key, head, described)
    if calls.write_output(memory, key, number, 9, latency):  # type: ignore[arg-type]
        assert parse(memory.head) == unpack_head(
            pack_head({**head, "call": number, "frames": (9,), "latency": latency})[0][HEAD_LENGTH.size :]
        )


def test_the_usual_tensor_has_a_key_and_the_unusual_has_none() -> None:
    assert tensor_key(torch.zeros(2)) is not None
    for unusual in (torch.zeros(2, device="meta"), torch.eye(2).to_sparse(), torch.nn.Parameter(torch.zeros(1)), [1]):
        assert tensor_key(unusual) is None
    negative = torch.complex(torch.zeros(2), torch.ones(2)).conj().imag
    assert negative.is_neg() and tensor_key(negative) is None


@given(JSON, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**32))
def test_a_head_with_open_fields_and_a_last_one_is_the_same_map(metadata: Any, a: int, b: int, c: int) -> None:
    head = {"stream": "s", "time": a, "monotonic": b, "context": c, "metadata": metadata, "images": [{"name": "x"}]}
    holes = {"time": "integer", "monotonic": "integer", "context": "integer"}
    template = HeadTemplate(holes, {**head, "time": 0, "monotonic": 0, "context": 0, "metadata": None}, last="metadata")
    assert parse(template.pack_with(a, b, c, pack_value(metadata))) == unpack_head(pack_value(head))


@given(JSON, st.floats(allow_nan=False))
def test_a_plain_end_is_the_same_map(metadata: Any, latency: float) -> None:
    head = {"latency": latency, "metadata": metadata, "output": None, "exception": None, "lost": {}}
    assert parse(pack_plain_end(latency, pack_value(metadata))) == unpack_head(pack_value(head))


def test_templates_forget_rather_than_grow() -> None:
    templates = Templates()
    template = HeadTemplate({"a": "integer", "b": "integer", "c": "float"}, {"a": 0, "b": 0, "c": 0.0})
    for number in range(1_000):
        templates.learn((number,), template, 0)
    assert sum(templates.get((number,)) is not None for number in range(1_000)) <= 128


@pytest.mark.parametrize("readonly", [False, True])
def test_the_second_frame_of_a_shape_holds_its_own_pixels(make_recorder: Any, bundles: Any, readonly: bool) -> None:
    """The first takes the plain path, the others the template; big-endian and strided ones never do."""
    recorder = make_recorder()
    images = [np.full((4, 6, 3), number, np.uint8) for number in range(3)]
    images += [np.arange(24, dtype=">u2").reshape(4, 6) + number for number in range(2)]
    images += [np.arange(48, dtype=np.uint8).reshape(4, 12)[:, ::2] + number for number in range(2)]
    images += [np.arange(96, dtype=np.uint8).reshape(4, 24)[:, number::4] for number in range(2)]
    for image in images:
        image.flags.writeable = not readonly
        with recorder.frame(image=image, camera="a", note="é"):
            pass
    recorder.trigger("look").wait(20)
    [bundle] = bundles()
    frames = bundle.manifest.frames
    assert len(frames) == len(images)
    for frame, image in zip(frames, images, strict=True):
        assert np.array_equal(bundle.pixels(frame.images[0]), image) and frame.metadata["note"] == "é"
        assert frame.status == "complete" and frame.stream == "a"


def test_frames_have_numbers_of_their_own() -> None:
    assert Frame(None).id < Frame(None).id
