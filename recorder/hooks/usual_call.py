"""The usual call, dense CPU tensors in and out: its heads are templates made of the plain path's heads.

What is written by them is what the plain path would write: a template is the plain path's own head with the numbers of
the call left open. Everything else of the head is part of the template's key: model, context, settings and, of each
tensor, dtype, shape, strides and alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any

import torch

from recorder.capture import Description, MemoryLeaf
from recorder.head_template import HeadTemplate, Hole, Templates
from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.hooks.call import OpenCall
    from recorder.record_writer import Part
    from recorder.session import Session

__all__ = ["UsualCalls", "input_key", "layout_of", "output_key"]

_INPUT, _OUTPUT, _STAGES = int(Kind.INPUT), int(Kind.OUTPUT), int(Kind.STAGES)
_Tensor = torch.Tensor
_any_autocast = torch._C._is_any_autocast_enabled
_grad, _inference = torch.is_grad_enabled, torch.is_inference_mode_enabled
_ALIGNMENT_MASK = 63
#: Of lists of more than this, such as one of all boxes, no two are alike.
MAX_TENSORS = 16
#: Answers are dictionaries of tensors, or lists of those.
MAX_DEPTH = 3

#: What repeats of a record; the addresses of its tensors.
Key = tuple[tuple[Any, ...], list[int]]
_I, _F = Hole.INTEGER, Hole.FLOAT


class UsualCalls:
    """Templates of one attached model's calls, for one recording."""

    __slots__ = ("_inputs", "_outputs")

    def __init__(self) -> None:
        #: template, bytes of the payload, and offset and bytes of each tensor in it
        self._inputs: Templates[tuple[HeadTemplate, int, tuple[tuple[int, int], ...]]] = Templates()
        self._outputs: Templates[tuple[HeadTemplate, int, tuple[tuple[int, int], ...]]] = Templates()

    def clear(self) -> None:
        """Forget all: another recording numbers its models anew."""
        self._inputs.clear()
        self._outputs.clear()

    def write_input(self, session: Session, call: OpenCall, key: Key) -> bool:
        """Write the record of a call's inputs; False when there is no template for it, or no room in the ring."""
        known = self._inputs.get(key[0])
        if known is None:
            return False
        template, payload_bytes, places = known
        parts = _parts(key[1], places)
        if call.is_begun or call.implicit is None:
            parent = () if call.parent is None else (call.parent,)
            head = template.pack(call.id, call.key, *parent, monotonic_ns())
            return session.records.append(_INPUT, call.key, head, payload_bytes, parts)
        now = monotonic_ns()
        head = template.pack(time_ns(), now, call.id, call.key, now)
        call.is_begun = written = session.records.append(_STAGES, call.key, head, payload_bytes, parts)
        return written

    def write_output(self, session: Session, call: OpenCall, key: Key, latency_seconds: float) -> bool:
        """Write the record of a call's output, and leave the frame that ends with it; False as for `write_input`."""
        known = self._outputs.get(key[0])
        if known is None:
            return False
        template, payload_bytes, places = known
        parts = _parts(key[1], places)
        implicit = call.implicit
        if implicit is None or session.predicates:
            head = template.pack(call.id, call.key, latency_seconds)
            return session.records.append(_OUTPUT, call.key, head, payload_bytes, parts)
        head = template.pack(call.id, call.key, latency_seconds, implicit.take_time())
        if not session.records.append(_STAGES, call.key, head, payload_bytes, parts):
            return False
        call.implicit = None
        implicit.close_around_call(session)
        return True

    def learn_input(
        self, key: Key, call: OpenCall, head: Mapping[str, Any], begin: Mapping[str, Any] | None, described: Description
    ) -> None:
        """Remember the heads of a record that was just written the plain way.

        Args:
            key: from `input_key`.
            call: what was called.
            head: of the INPUT.
            begin: of the frame's beginning, where it stands in the same record.
            described: what the head describes.
        """
        open_head = {**head, "call": _I, "frames": [_I], "started": _I}
        if call.parent is not None:
            open_head["parent"] = _I
        if begin is not None:
            open_begin = {**begin, "time": _I, "monotonic": _I, "context": head["context"]}
            open_head = {"begin": open_begin, "input": open_head}
        _learn(self._inputs, key, open_head, described, thinned=bool(call.admission))

    def learn_output(
        self, key: Key, head: Mapping[str, Any], end: Mapping[str, Any] | None, described: Description
    ) -> None:
        """Remember the heads of a record of an output; ``end``: of the frame, where it stands in the same record."""
        open_head: dict[str, Any] = {**head, "call": _I, "frames": [_I], "latency": _F}
        if end is not None:
            open_head = {"output": open_head, "end": {**end, "latency": _F}}
        _learn(self._outputs, key, open_head, described)


def input_key(
    session: Session, call: OpenCall, training: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Key | None:
    """Return what repeats of the record of a call's inputs; None where anything about it is unusual."""
    if _any_autocast() or len(call.frames) != 1:
        return None
    is_begun = call.is_begun or call.implicit is None
    if not is_begun and call.implicit.metadata:  # type: ignore[union-attr]  # it is there where it is not begun
        return None
    addresses: list[int] = []
    if len(args) == 1 and not kwargs and type(args[0]) is _Tensor:
        layout = layout_of(args[0], addresses)
    else:
        layout = layout_of([args, kwargs], addresses)
    if layout is None:
        return None
    context = session.contexts.current()
    numbers = (call.model, context, training, _grad(), _inference(), call.admission, is_begun, call.parent is None)
    return (layout, numbers), addresses


def output_key(session: Session, call: OpenCall, output: object) -> Key | None:
    """Return what repeats of the record of a call's output; None where anything about it is unusual."""
    if call.admission or len(call.frames) != 1:
        return None
    implicit = call.implicit
    if implicit is not None and implicit.metadata:
        return None
    addresses: list[int] = []
    layout = layout_of(output, addresses)
    return None if layout is None else ((layout, implicit is None), addresses)


def _parts(addresses: list[int], places: tuple[tuple[int, int], ...]) -> Sequence[Part]:
    if len(places) == 1:  # nearly always, and without a function's frame for the loop
        return ((addresses[0], *places[0]),)
    return [(address, *place) for address, place in zip(addresses, places, strict=False)]


def _learn(
    templates: Templates[tuple[HeadTemplate, int, tuple[tuple[int, int], ...]]],
    key: Key,
    head: Mapping[str, Any],
    described: Description,
    thinned: bool = False,
) -> None:
    leaves = described.leaves
    # A leaf elsewhere is a copy that was made because the tensor's own memory is not what has to be kept.
    if [leaf.source if isinstance(leaf, MemoryLeaf) else None for leaf in leaves] != key[1]:
        return
    if any(tensor["dtype"].startswith("complex") for tensor in described.tensors):
        return  # `layout_of` does not ask whether one is conjugated
    if thinned:
        templates.learn(key[0], (HeadTemplate(head), 0, ()))
    elif described.size_bytes:
        places = tuple((offset, leaf.size_bytes) for offset, leaf in zip(described.offsets, leaves, strict=True))
        templates.learn(key[0], (HeadTemplate(head), described.size_bytes, places))


def layout_of(value: Any, addresses: list[int], depth: int = 0) -> tuple[Any, ...] | None:
    """Return what of a value's tensors a head holds; None for anything but dense tensors in lists and dictionaries.

    Args:
        value: an input or an output.
        addresses: the tensors' addresses are appended to it, in the order of the payload.
        depth: how many lists and dictionaries it stands in.
    """
    kind = type(value)
    if kind is _Tensor:
        # Of a tensor that is negated or conjugated the memory is not what it says; see `UsualRecords.learn`.
        if not value.is_cpu or value.is_neg():
            return None
        try:
            strides = value.stride()
            address = value.data_ptr()
        except RuntimeError:  # another layout: sparse, or a library's own
            return None
        addresses.append(address)
        return (value.dtype, value.shape, strides, address & _ALIGNMENT_MASK)
    if kind is dict:
        if not all(type(name) is str for name in value):
            return None
        items = list(value.values())
    elif kind is tuple or kind is list:
        items = value
    else:
        return None
    if len(items) > MAX_TENSORS or depth >= MAX_DEPTH:
        return None
    layouts = [layout_of(item, addresses, depth + 1) for item in items]
    if None in layouts:
        return None
    return (kind, *value, *layouts) if kind is dict else (kind, *layouts)
