"""The usual call, one dense CPU tensor in and one out: its heads are templates made of the plain path's heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from recorder.capture import Description, MemoryLeaf
from recorder.head_template import HeadTemplate, Templates
from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["UsualCalls"]

_INPUT, _OUTPUT = int(Kind.INPUT), int(Kind.OUTPUT)
_INPUT_HOLES = {"call": "integer", "frames": "list of one", "started": "integer"}
_OUTPUT_HOLES = {"call": "integer", "frames": "list of one", "latency": "float"}
_Tensor, _strided = torch.Tensor, torch.strided
_ALIGNMENT_MASK = 63


class UsualCalls:
    """Templates of one attached model's calls, for one recording.

    What is written by them is what the plain path would write: a template is the plain path's own head with the
    numbers of the call left open. Everything else of the head is part of the key: model, context, settings and, of the
    tensor, dtype, shape, strides and alignment.
    """

    __slots__ = ("_inputs", "_outputs")

    def __init__(self) -> None:
        self._inputs = Templates()
        self._outputs = Templates()

    def clear(self) -> None:
        """Forget all: another recording numbers its models anew."""
        self._inputs.clear()
        self._outputs.clear()

    def write_input(self, session: Session, key: tuple[Any, ...], call: int, frame: int, started: int) -> bool:
        """Write an INPUT record; False when there is no template for it, or no room in the ring.

        Args:
            session: the recording.
            key: from `input_key`.
            call: its id.
            frame: the id of its only frame.
            started: monotonic nanoseconds.
        """
        known = self._inputs.get(key[1:])
        if known is None:
            return False
        template, size_bytes = known
        return session.write_packed(_INPUT, frame, template.pack(call, frame, started), key[0], size_bytes)

    def write_output(self, session: Session, key: tuple[Any, ...], call: int, frame: int, latency: float) -> bool:
        """Write an OUTPUT record; False as for `write_input`."""
        known = self._outputs.get(key[1:])
        if known is None:
            return False
        template, size_bytes = known
        return session.write_packed(_OUTPUT, frame, template.pack(call, frame, latency), key[0], size_bytes)

    def learn_input(
        self, key: tuple[Any, ...], head: Mapping[str, Any], described: Description, *, thinned: bool = False
    ) -> None:
        """Remember the head of an INPUT record that was just written the plain way; ``thinned``: without its tensor."""
        self._learn(self._inputs, key, _INPUT_HOLES, head, described, thinned)

    def learn_output(self, key: tuple[Any, ...], head: Mapping[str, Any], described: Description) -> None:
        """Remember the head of an OUTPUT record that was just written the plain way."""
        self._learn(self._outputs, key, _OUTPUT_HOLES, head, described)

    @staticmethod
    def _learn(
        templates: Templates,
        key: tuple[Any, ...],
        holes: Mapping[str, str],
        head: Mapping[str, Any],
        described: Description,
        thinned: bool = False,
    ) -> None:
        leaf = described.leaves[0] if len(described.leaves) == 1 else None
        # A leaf elsewhere is a copy that was made because the tensor's own memory is not what has to be kept.
        if isinstance(leaf, MemoryLeaf) and leaf.source == key[0] and described.offsets == [0]:
            templates.learn(key[1:], HeadTemplate(holes, head), 0 if thinned else leaf.size_bytes)


def tensor_key(value: object, *more: object) -> tuple[Any, ...] | None:
    """Return a tensor's address, what else of it a head holds, and ``more``; None for anything unusual."""
    if type(value) is not _Tensor or not value.is_cpu or value.layout is not _strided or value.is_neg():
        return None
    address = value.data_ptr()
    return (address, value.dtype, value.shape, value.stride(), address & _ALIGNMENT_MASK, *more)
