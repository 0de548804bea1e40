"""The pipe between replay and its worker: neither side believes the other."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.exchange import answer_from_wire
from replay.protocol import ProtocolError, read_message, write_message


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue  # the test closed it


def test_a_message_arrives_as_it_was_sent(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    parts = [b"abc", b"", bytes(range(256)) * 4000]
    sender = threading.Thread(target=write_message, args=(writer, {"op": "run", "n": [1, None, "ü"]}, parts))
    sender.start()
    assert read_message(reader) == ({"op": "run", "n": [1, None, "ü"]}, bytearray(b"".join(parts)))
    sender.join()
    os.close(writer)
    assert read_message(reader) is None


def _prefix(header: int, payload: int) -> bytes:
    return struct.pack("<IQ", header, payload)


@pytest.mark.parametrize(
    "sent",
    [
        _prefix(2**32 - 1, 0),
        _prefix(1, 2**60),
        _prefix(4, 0) + b"\x81",
        _prefix(1, 0) + b"\xc1",
        _prefix(1, 0) + b"\x90",
        _prefix(4, 0) + msgpack.packb(msgpack.ExtType(5, b"x")),
        _prefix(3, 0) + msgpack.packb({1: 2}),
        _prefix(5, 0) + b"\xdd\xff\xff\xff\xff",
        _prefix(6000, 0) + b"\x91" * 6000,
        b"\x01",
    ],
)
def test_what_is_no_message_is_refused_without_taking_memory(pipe: tuple[int, int], sent: bytes) -> None:
    reader, writer = pipe
    os.write(writer, sent)
    os.close(writer)
    with pytest.raises(ProtocolError):
        read_message(reader, max_payload_bytes=2**20)


tensor = st.fixed_dictionaries(
    {
        "container": st.sampled_from(["torch", "numpy"]),
        "dtype": st.sampled_from(["float32", "uint8", "object", ""]),
        "shape": st.lists(st.integers(-3, 10), max_size=3),
        "strides": st.lists(st.integers(-3, 10), max_size=3),
        "alignment": st.none() | st.integers(0, 63),
        "device": st.just("cpu"),
        "offset": st.integers(-5, 100),
        "size_bytes": st.integers(-5, 100),
    }
)
tagged = st.recursive(
    st.fixed_dictionaries({"tensor": tensor}) | st.builds(lambda item: {"scalar": item}, st.none() | st.integers()),
    lambda inner: (
        st.builds(lambda items: {"tuple": items}, st.lists(inner, max_size=3))
        | st.dictionaries(st.sampled_from(["dict", "record", "list", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


@given(tagged, st.binary(max_size=100))
def test_a_hostile_answer_is_an_answer_or_a_protocol_error(answer: object, payload: bytes) -> None:
    try:
        answer_from_wire(answer, bytearray(payload))
    except ProtocolError:
        return
