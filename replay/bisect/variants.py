"""A recorded call in another form: its batch one item at a time, its tensors contiguous, aligned, without autocast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from recorder.bundle.codec import to_json
from recorder.bundle.manifest import Call, TensorLayout
from recorder.bundle.tensors import dense_order
from recorder.bundle.values import (
    ITEM_SIZE_BYTES,
    TensorValue,
    map_tensors,
    tensors_of,
)
from replay.compare.comparison import Answer
from replay.compare.layout import logical_bits
from replay.exchange import ReadTensor
from replay.outcome import Job
from replay.sources import Candidate

__all__ = ["Variants", "batch_of", "is_laid_out", "joined", "plain"]

_CACHE_LINE_BYTES = 64
#: Images come as (N, C, H, W); a first axis of fewer dimensions may be time, which cannot be taken apart.
_IMAGE_DIMENSIONS = 4
#: Larger batches are left whole: each item is a call of its own in every cell.
_MOST_ITEMS = 256


def batch_of(call: Call) -> int:
    """How many items a call's batch holds; 1 where it cannot be taken apart.

    It can where each item is a frame of its own or the first tensor is (N, C, H, W), and every tensor of the answer
    has N as its first axis.
    """
    given = next((tensor for value in (call.args, call.kwargs) for _, tensor in tensors_of(value)), None)
    if given is None or not given.shape or call.output is None:
        return 1
    size = given.shape[0]
    if len(given.shape) < _IMAGE_DIMENSIONS and len(call.frames) != size:
        return 1
    answers = [tensor for _, tensor in tensors_of(call.output)]
    fits = answers and all(tensor.shape[:1] == (size,) for tensor in answers)
    return size if fits and 1 < size <= _MOST_ITEMS else 1


def is_laid_out(job: Job) -> bool:
    """Whether an argument or a weight of a call lay in memory other than C-contiguous."""
    tensors = [tensor for value in (job.call.args, job.call.kwargs) for _, tensor in tensors_of(value)]
    if any(_spread(tensor.shape, tensor.strides) for tensor in tensors):
        return True
    # A layout is listed for its alignment too, and its shape is not known here: C order never has a growing stride.
    return any(list(each.strides) != sorted(each.strides, reverse=True) for each in job.model.layouts.values())


class Variants:
    """Makes the jobs of a cell. ``read`` is what their session has to read tensors with."""

    def __init__(self, read: ReadTensor) -> None:
        """``read`` gives a recorded tensor's bytes, such as `Bundle.tensor_bytes`."""
        self._recorded = read
        self._made: dict[str, tuple[TensorValue, tuple[int, int] | None]] = {}

    def read(self, tensor: TensorValue) -> bytes:
        """The bytes of a recorded tensor, or of one that `jobs` made from it."""
        if tensor.member not in self._made:
            return self._recorded(tensor)
        source, item = self._made[tensor.member]
        bits = logical_bits(self._recorded(source), source.dtype, source.shape, source.strides)
        if item is not None:
            bits = bits[item[0] : item[0] + 1]
        order = dense_order(tensor.shape, tensor.strides)
        return (bits if order is None else bits.transpose(order)).tobytes()

    def forget(self) -> None:
        """Drop what `jobs` made for an earlier cell."""
        self._made.clear()

    def jobs(self, job: Job, restored: frozenset[str]) -> list[Job]:
        """Return the calls that stand for a recorded one when only these of the call's factors are restored."""
        settings = job.call.settings
        if "autocast" not in restored:
            settings = replace(settings, autocast={})
        if "gradient mode" not in restored:
            settings = replace(settings, inference_mode=False, grad_enabled=True)
        size = 1 if "batch" in restored else batch_of(job.call)
        form = (restored >= {"memory format"}, restored >= {"alignment"})
        variant = "" if all(form) else f"{form}"
        model = job.model if all(form) else replace(job.model, layouts=_layouts(job, *form))
        candidates = job.candidates if all(form) else [_with_layouts(each, model.layouts) for each in job.candidates]
        made = []
        for index in range(size):
            item = None if size == 1 else (index, size)
            change = lambda tensor, item=item: self._changed(tensor, item, *form)  # noqa: E731
            call = replace(
                job.call,
                settings=settings,
                args=map_tensors(job.call.args, change),
                kwargs=map_tensors(job.call.kwargs, change),
            )
            made.append(replace(job, call=call, model=model, candidates=candidates, variant=variant))
        return made

    def _changed(self, tensor: TensorValue, item: tuple[int, int] | None, format: bool, alignment: bool) -> TensorValue:
        shape, strides, place = tensor.shape, tensor.strides, tensor.alignment or 0
        if item is not None and shape[:1] == (item[1],):
            place = (place + item[0] * strides[0] * ITEM_SIZE_BYTES[tensor.dtype]) % _CACHE_LINE_BYTES
            shape = (1, *shape[1:])
        else:
            item = None
        if not format:
            strides = _contiguous(shape)
        place = place if alignment else 0
        if item is None and strides == tensor.strides and place == (tensor.alignment or 0):
            return tensor
        name = f"variant {len(self._made)}"
        self._made[name] = (tensor, item)
        size_bytes = math.prod(shape) * ITEM_SIZE_BYTES[tensor.dtype]
        return replace(
            tensor, shape=shape, strides=strides, alignment=place, member=name, offset=0, size_bytes=size_bytes
        )


def joined(answers: Sequence[Answer]) -> Answer | None:
    """Put the answers for single items together again; None where they do not fit together."""
    first = plain(answers[0])
    if len(answers) == 1:
        return first
    rest = [plain(answer) for answer in answers[1:]]
    values = dict(tensors_of(first.value))
    for answer in rest:
        if {path: (each.dtype, each.shape) for path, each in tensors_of(answer.value)} != {
            path: (each.dtype, each.shape) for path, each in values.items()
        }:
            return None
    if first.value is None:
        return first
    if any(tensor.shape[:1] != (1,) for tensor in values.values()):
        return None
    tensors = {path: b"".join(answer.tensors[path] for answer in (first, *rest)) for path in values}
    size = len(answers)
    value = map_tensors(
        first.value,
        lambda tensor: replace(
            tensor,
            shape=(size, *tensor.shape[1:]),
            strides=_contiguous((size, *tensor.shape[1:])),
            size_bytes=tensor.size_bytes * size,
        ),
    )
    return Answer(value=value, tensors=tensors)


def plain(answer: Answer) -> Answer:
    """The same elements in C order: how an answer lies in memory is no difference of its bits."""
    tensors = {
        path: logical_bits(answer.tensors[path], tensor.dtype, tensor.shape, tensor.strides).tobytes()
        for path, tensor in tensors_of(answer.value)
    }
    if answer.value is None:
        return Answer(value=None, tensors=tensors)
    value = map_tensors(answer.value, lambda tensor: replace(tensor, strides=_contiguous(tensor.shape), alignment=0))
    return Answer(value=value, tensors=tensors)


def _layouts(job: Job, format: bool, alignment: bool) -> dict[str, TensorLayout]:
    """The weights' layouts, as far as they are restored; a weight that is left out lies in C order at 64 bytes."""
    kept = {}
    for name, layout in job.model.layouts.items():
        grown = list(layout.strides) != sorted(layout.strides, reverse=True)
        if format or (alignment and not grown):
            kept[name] = replace(layout, alignment=layout.alignment if alignment else 0)
    return kept


def _with_layouts(candidate: Candidate, layouts: dict[str, TensorLayout]) -> Candidate:
    return replace(candidate, request={**candidate.request, "layouts": to_json(layouts)})


def _spread(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether strides are other than those of C order, where an axis has more than one element."""
    usual = _contiguous(shape)
    return 0 not in shape and any(
        size > 1 and stride != plain_stride for size, stride, plain_stride in zip(shape, strides, usual, strict=True)
    )


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(math.prod(shape[axis + 1 :])) for axis in range(len(shape)))
