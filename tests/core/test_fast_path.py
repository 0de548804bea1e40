"""What templates write is what the plain path writes, byte for byte of meaning."""

from __future__ import annotations

import copy
import ctypes
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.capture import describe
from recorder.frame import Frame
from recorder.governor import Admission
from recorder.head_template import HeadTemplate, Hole, Templates
from recorder.hooks.call import OpenCall
from recorder.hooks.usual_call import UsualCalls, input_key, layout_of, output_key
from recorder.privacy import PrivacyPolicy
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

    kind = 0
    head: bytes = b""
    payload: bytes = b""
    predicates = ()

    def __init__(self) -> None:
        self.records = self
        self.contexts = SimpleNamespace(current=lambda: 5, latest=5)

    def append(self, kind: int, key: int, head: bytes, payload_bytes: int, parts: Any) -> bool:
        payload = bytearray(payload_bytes)
        for address, offset, size_bytes in parts:
            payload[offset : offset + size_bytes] = ctypes.string_at(address, size_bytes)
        self.kind, self.head, self.payload = kind, head, bytes(payload)
        return True


def call_of(number: int, frame: int, parent: int | None = None) -> OpenCall:
    return OpenCall(None, number, 3, None, None, (frame,), frame, parent, 0, None, Admission.FULL, True)  # type: ignore[arg-type]  # no session


def plain_input(call: OpenCall, args: Any, kwargs: Any, started: int) -> tuple[dict[str, Any], Any]:
    described = describe((args, kwargs, None))
    args, kwargs, _ = described.tagged["tuple"]
    settings = {"training": False, "grad_enabled": True, "inference_mode": False, "autocast": {}}
    head = {"call": call.id, "model": 3, "context": 5, "frames": call.frames, "parent": call.parent}
    return {**head, "settings": settings, "args": args, "kwargs": kwargs, "rng": None, "started": started}, described


def bytes_of(described: Any) -> bytes:
    expected = ctypes.create_string_buffer(max(1, described.size_bytes))
    described.copy_to(ctypes.addressof(expected))
    return expected.raw[: described.size_bytes]


def without_gaps(described: Any, payload: bytes) -> list[bytes]:
    """The tensors of a payload; what lies between them is anything."""
    pairs = zip(described.offsets, described.leaves, strict=True)
    return [payload[offset : offset + leaf.size_bytes] for offset, leaf in pairs]


ANSWERS = st.recursive(
    tensors(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ANSWERS, max_size=2), ANSWERS, st.integers(0, 2**63), st.none() | st.integers(0, 2**63))
def test_a_template_of_one_call_writes_what_the_plain_path_writes_for_the_next(
    values: list[Any], other: Any, number: int, parent: int | None
) -> None:
    calls, memory = UsualCalls(), Memory()
    first, kwargs = call_of(1, 1, None if parent is None else 1), {} if number % 2 else {"x": other}
    key = input_key(memory, first, False, tuple(values), kwargs)  # type: ignore[arg-type]  # as much as it needs
    if key is not None:
        head, described = plain_input(first, tuple(values), kwargs, 1)
        calls.learn_input(key, first, head, None, described)
    for args in ((other,), tuple(values), copy.deepcopy(tuple(values))):
        call = call_of(number, 7, parent)
        key = input_key(memory, call, False, args, kwargs)  # type: ignore[arg-type]  # see above
        if key is None or not calls.write_input(memory, call, key):  # type: ignore[arg-type]  # see above
            continue  # left to the plain path
        written = parse(memory.head)
        head, described = plain_input(call, args, kwargs, written["started"])
        assert written == unpack_head(pack_head(head)[0][HEAD_LENGTH.size :])
        assert without_gaps(described, memory.payload) == without_gaps(described, bytes_of(described))


@settings(max_examples=100, deadline=None)
@given(ANSWERS, st.integers(0, 2**63), st.floats(0, 1e6))
def test_an_output_is_written_by_template_as_plainly(answer: Any, number: int, latency: float) -> None:
    calls, memory, call = UsualCalls(), Memory(), call_of(number, 9)
    key, described = output_key(memory, call, answer), describe(answer)  # type: ignore[arg-type]  # see above
    if key is None:
        return
    head = {"call": 1, "frames": (1,), "latency": 0.5, "output": described.tagged}
    calls.learn_output(key, head, None, described)
    if calls.write_output(memory, call, key, latency):  # type: ignore[arg-type]  # see above
        expected = {**head, "call": number, "frames": (9,), "latency": latency}
        assert parse(memory.head) == unpack_head(pack_head(expected)[0][HEAD_LENGTH.size :])
        assert without_gaps(described, memory.payload) == without_gaps(described, bytes_of(described))


def test_the_usual_tensors_have_a_layout_and_the_unusual_have_none() -> None:
    assert layout_of(torch.zeros(2), []) is not None
    addresses: list[int] = []
    assert layout_of({"a": [torch.zeros(2), (torch.ones(1),)]}, addresses) is not None and len(addresses) == 2
    negative = torch.complex(torch.zeros(2), torch.ones(2)).conj().imag
    assert negative.is_neg()
    endless: list[Any] = []
    endless.append(endless)
    for unusual in (
        negative,
        torch.zeros(2, device="meta"),
        torch.eye(2).to_sparse(),
        torch.nn.Parameter(torch.zeros(1)),
        [torch.zeros(1)] * 17,
        {1: torch.zeros(1)},
        endless,
        [1],
        None,
    ):
        assert layout_of(unusual, []) is None


def test_what_is_nested_differently_has_another_layout() -> None:
    a, b = torch.zeros(2), torch.zeros(2)
    values: list[Any] = [a, [a], (a,), [[a]], {"a": a}, {"b": a}, [a, b], (a, b), {"a": a, "b": b}, {"b": a, "a": b}]
    layouts = [layout_of(value, []) for value in values]
    assert len(set(layouts)) == len(values)


def test_conjugated_tensors_never_make_a_template() -> None:
    plain = torch.zeros(2, dtype=torch.complex64)
    calls, memory, call = UsualCalls(), Memory(), call_of(1, 1)
    key = output_key(memory, call, plain)  # type: ignore[arg-type]  # see above
    assert key is not None
    calls.learn_output(key, {"output": describe(plain).tagged}, None, describe(plain))
    assert not calls.write_output(memory, call, key, 0.5)  # type: ignore[arg-type]  # see above


@given(JSON, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.floats(allow_nan=False), st.integers(0, 20))
def test_a_head_with_holes_and_an_open_end_is_the_same_map(
    metadata: Any, a: int, b: int, c: float, others: int
) -> None:
    """Also where maps and lists are longer than their short forms hold."""
    more = {str(number): [number] * number for number in range(others)}
    head = {"stream": "s", "in": {"time": a, "b": [b, *range(others)]}, "c": c, **more, "metadata": metadata}
    template = HeadTemplate(
        {
            **head,
            "in": {"time": Hole.INTEGER, "b": [Hole.INTEGER, *range(others)]},
            "c": Hole.FLOAT,
            "metadata": None,
        },
        last="metadata",
    )
    assert parse(template.pack_with(pack_value(metadata), a, b, c)) == unpack_head(pack_value(head))


def test_templates_forget_rather_than_grow() -> None:
    templates: Templates[int] = Templates()
    for number in range(1_000):
        templates.learn((number,), number)
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
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    frames = bundle.manifest.frames
    assert len(frames) == len(images)
    for frame, image in zip(frames, images, strict=True):
        assert np.array_equal(bundle.pixels(frame.images[0]), image) and frame.metadata["note"] == "é"
        assert frame.status == "complete" and frame.stream == "a"


def test_what_privacy_keeps_out_of_the_ring_never_becomes_a_template(make_recorder: Any, net: Any) -> None:
    """Of many frames of one shape no pixel, input or answer reaches the ring, and the metadata is the withheld one."""
    fields = ("image", "model_input", "model_output", "output", "metadata.who")
    recorder = make_recorder(privacy=PrivacyPolicy(levels=dict.fromkeys(fields, "digest-only")))
    recorder.attach(net, store=False)
    secret = np.frombuffer(b"a face" * 16, np.uint8).reshape(4, 8, 3).copy()
    given = torch.full((1, 16), 3.14159)
    with torch.inference_mode():
        answers = []
        for _ in range(4):
            with recorder.frame(image=secret, camera="a", who="Ada Lovelace") as frame:
                answers.append(net(given))
                frame.output = {"score": 0.123456789}
            answers.append(net(given))
    ring = recorder._session.ring_path.read_bytes()
    hidden = (secret.tobytes(), given.numpy().tobytes(), answers[0].numpy().tobytes(), b"Ada Lovelace")
    assert not [number for number, content in enumerate(hidden) if content in ring]
    assert struct.pack(">d", 0.123456789) not in ring
    assert not recorder.stats().errors


def test_metadata_that_changes_inside_a_frame_stands_changed_at_its_end(make_recorder: Any, bundles: Any) -> None:
    """However it was changed: by the frame, in the dictionary itself, or deep inside a value."""
    recorder = make_recorder()
    for number in range(3):
        with recorder.frame(camera="a", deep={"list": [0]}) as frame:
            frame["by_key"] = number
        with recorder.frame(camera="a", deep={"list": [0]}) as frame:
            frame.metadata["inside"] = number
        with recorder.frame(camera="a", deep={"list": [0]}) as frame:
            frame.metadata["deep"]["list"].append(number)
    recorder.trigger("look").wait(120)
    [bundle] = bundles()
    found = [dict(frame.metadata) for frame in bundle.manifest.frames]
    plain = {"camera": "a", "deep": {"list": [0]}}
    changes = [
        change
        for number in range(3)
        for change in ({"by_key": number}, {"inside": number}, {"deep": {"list": [0, number]}})
    ]
    assert found == [{**plain, **change} for change in changes]


def test_frames_have_numbers_of_their_own() -> None:
    assert Frame(None).id < Frame(None).id
