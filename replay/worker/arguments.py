"""From the tagged JSON form and bytes back to live objects: tensors that lie in memory as the host's did.

Runs in the worker. No code of the host is involved: what would need it is refused with a sentence.
"""

from __future__ import annotations

import collections
import keyword
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recorder.bundle.tensors import dense_order
from recorder.bundle.values import DTYPES, ITEM_SIZE_BYTES, MAX_DEPTH
from replay.show.text import inert

__all__ = ["NotRebuildable", "Placing", "rebuild"]

_CACHE_LINE_BYTES = 64

#: Strides may spread a tensor over this much more memory than its elements take (a slice of a large batch does); a
#: hostile bundle could otherwise ask for all the memory there is.
_MAX_SPREAD = 64
_ALWAYS_ALLOWED_BYTES = 64 * 2**20

_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class NotRebuildable(Exception):
    """An argument that cannot be given to the model again; the message is one sentence that says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Where tensors go."""

    device: str = "cpu"  #: of the model
    from_cpu: bool = False  #: whether tensors of the CPU go there too: the call was recorded on the CPU altogether

    def of(self, recorded: str) -> str:
        """The device of a tensor that was recorded on that one."""
        return "cpu" if recorded == "cpu" and not self.from_cpu else self.device


_CPU = Placing()


def rebuild(tagged: Any, payload: memoryview, *, where: str = "args", placing: Placing = _CPU, depth: int = 0) -> Any:
    """Build one value.

    Args:
        tagged: its tagged JSON form, tensors with ``offset`` into the payload (`recorder.capture.describe`).
        payload: the bytes of all tensors.
        where: how to name this value in an error, such as "args[0]".
        placing: where tensors go; arrays of numpy stay what they are.

    Raises:
        NotRebuildable: the recording lacks a part, or building it would take the host's code.
    """
    if depth > MAX_DEPTH or not isinstance(tagged, dict) or len(tagged) != 1:
        raise NotRebuildable(f"{where} is not a value this version knows")
    [(tag, content)] = tagged.items()
    match tag:
        case "tensor":
            return _tensor(content, payload, where, placing)
        case "scalar":
            return content
        case "float":
            return _NUMBERS[content]
        case "tuple" | "list":
            items = [
                rebuild(item, payload, where=f"{where}[{index}]", placing=placing, depth=depth + 1)
                for index, item in enumerate(content)
            ]
            return tuple(items) if tag == "tuple" else items
        case "dict":
            return {
                key: rebuild(item, payload, where=f"{where}[{key!r}]", placing=placing, depth=depth + 1)
                for key, item in content
            }
        case "record":
            return _record(content, payload, where, placing, depth)
        case "opaque":
            raise NotRebuildable(f"{where} was an object of type {inert(content)}, which could not be recorded")
    raise NotRebuildable(f"{where} is not a value this version knows")


def _record(content: dict[str, Any], payload: memoryview, where: str, placing: Placing, depth: int) -> Any:
    claimed, names = str(content["type"]), [str(name) for name, _ in content["fields"]]
    if content["form"] != "namedtuple":
        raise NotRebuildable(
            f"{where} was a dataclass {inert(claimed)}, and a bundle holds no code to build one; "
            "attach the model inside, whose arguments are tensors"
        )
    plain = all(name.isidentifier() and not keyword.iskeyword(name) and name[0] != "_" for name in names)
    if not plain or len(set(names)) != len(names):
        raise NotRebuildable(f"{where} was a namedtuple with field names that Python does not take")
    title = claimed.rpartition(".")[2]
    kind: Any = collections.namedtuple(  # type: ignore[misc]  # made from data, which is the point
        title if title.isidentifier() and not keyword.iskeyword(title) else "Record", names
    )
    return kind(
        *(
            rebuild(item, payload, where=f"{where}.{name}", placing=placing, depth=depth + 1)
            for name, item in content["fields"]
        )
    )


def _tensor(content: dict[str, Any], payload: memoryview, where: str, placing: Placing) -> Any:
    dtype, shape, strides = content["dtype"], tuple(content["shape"]), tuple(content["strides"])
    offset, size_bytes = content["offset"], content["size_bytes"]
    if dtype not in DTYPES or len(shape) != len(strides) or any(size < 0 for size in shape):
        raise NotRebuildable(f"{where} is not a tensor this version knows")
    if size_bytes != math.prod(shape) * ITEM_SIZE_BYTES[dtype] or not 0 <= offset <= len(payload) - size_bytes:
        raise NotRebuildable(f"{where} has another number of bytes than its shape takes")
    memory, first = _laid_out(
        payload[offset : offset + size_bytes], dtype, shape, strides, content.get("alignment") or 0, where
    )
    if content["container"] == "numpy":
        return _array(memory, first, dtype, shape, strides)
    device = placing.of(content["device"])
    return _torch_tensor(memory, dtype, shape, strides, content.get("alignment") or 0, device)


def _laid_out(
    data: memoryview, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], alignment: int, where: str
) -> tuple[NDArray[np.uint8], int]:
    """Memory in which the elements stand as they stood in the host, and the index of the first element's byte.

    The memory begins at the tensor's lowest address; without negative strides that is the first element, and it is
    ``alignment`` modulo 64.
    """
    item = ITEM_SIZE_BYTES[dtype]
    if not data:
        return _aligned(item, alignment), 0
    steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    below = -sum(step for step in steps if step < 0) * item
    span = below + (sum(step for step in steps if step > 0) + 1) * item
    if span > max(_ALWAYS_ALLOWED_BYTES, _MAX_SPREAD * len(data)):
        raise NotRebuildable(f"{where} has strides that spread it over {span} bytes of memory")
    memory = _aligned(span, (alignment - below) % _CACHE_LINE_BYTES)
    if dense_order(shape, strides) is not None:
        memory[:] = np.frombuffer(data, np.uint8)
        return memory, 0
    # Elements as opaque items of their width, so that every dtype is copied bit for bit. Where strides make elements
    # share memory, they are equal, and writing them twice does no harm.
    kind = np.dtype((np.void, item))
    place: NDArray[Any] = np.ndarray(
        shape, kind, buffer=memory.data, offset=below, strides=[stride * item for stride in strides]
    )
    place[...] = np.frombuffer(data, kind).reshape(shape)
    return memory, below


def _aligned(size_bytes: int, alignment: int) -> NDArray[np.uint8]:
    """Memory whose address is ``alignment`` modulo 64: the alignment of inputs changes bits of some kernels."""
    raw = np.zeros(size_bytes + _CACHE_LINE_BYTES, np.uint8)
    start = (alignment - raw.ctypes.data) % _CACHE_LINE_BYTES
    return raw[start : start + size_bytes]


def _array(
    memory: NDArray[np.uint8], first: int, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...]
) -> NDArray[Any]:
    if dtype.startswith(("bfloat", "float8")):
        raise NotRebuildable(f"numpy has no {dtype}")
    kind = np.dtype(dtype)
    return np.ndarray(
        shape, kind, buffer=memory.data, offset=first, strides=[stride * kind.itemsize for stride in strides]
    )


def _torch_tensor(
    memory: NDArray[np.uint8],
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    alignment: int,
    device: str,
) -> torch.Tensor:
    if any(stride < 0 for stride in strides):
        raise NotRebuildable("a torch tensor cannot have negative strides")
    raw = torch.from_numpy(memory)  # keeps numpy's memory alive
    if device != "cpu":
        room = torch.empty(memory.nbytes + _CACHE_LINE_BYTES, dtype=torch.uint8, device=device)
        start = (alignment - room.data_ptr()) % _CACHE_LINE_BYTES
        place = room[start : start + memory.nbytes]
        place.copy_(raw)
        raw = place
    return raw.view(getattr(torch, dtype)).as_strided(tuple(shape), tuple(strides))
