"""What goes to a worker and comes back."""

from __future__ import annotations

from dataclasses import replace

from recorder.bundle.values import TensorValue
from replay.exchange import kept

SMALL = TensorValue(
    container="torch",
    dtype="uint8",
    shape=(4,),
    strides=(1,),
    alignment=0,
    device="cpu",
    member="a",
    offset=0,
    size_bytes=4,
    encoding="raw",
    sha256="",
)


def test_what_is_kept_is_read_once_and_the_rest_each_time() -> None:
    """Held are the first tensors that fit the limit; a later, smaller one may still fit."""
    read: list[str] = []

    def from_bundle(tensor: TensorValue) -> bytes:
        read.append(tensor.member)
        return tensor.member.encode() * tensor.size_bytes

    reader = kept(from_bundle, 7)
    tensors = [SMALL, replace(SMALL, member="b"), replace(SMALL, member="c", size_bytes=3)]
    for _ in range(2):
        assert [reader(tensor) for tensor in tensors] == [b"aaaa", b"bbbb", b"ccc"]
    assert read == ["a", "b", "c", "b"]
