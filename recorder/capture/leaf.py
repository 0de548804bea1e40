"""Bytes on their way into the ring: a tensor, an array or an encoded image, copied once, straight to its place."""

from __future__ import annotations

import ctypes
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.values import ITEM_SIZE_BYTES
from recorder.capture.device import is_remote, memory_of

__all__ = [
    "ALIGNMENT_BYTES",
    "ArrayLeaf",
    "BytesLeaf",
    "Leaf",
    "MemoryLeaf",
    "RemoteLeaf",
    "align",
    "is_dense",
    "tensor_leaf",
]

#: Payload parts start at multiples of a cache line, which is also torch's own allocation alignment.
ALIGNMENT_BYTES = 64


def align(offset: int) -> int:
    """Round up to the next multiple of ALIGNMENT_BYTES."""
    return (offset + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES


class Leaf:
    """Some bytes of the host that will be copied into the ring."""

    __slots__ = ("size_bytes",)

    size_bytes: int

    def copy_to(self, address: int) -> None:
        """Copy the bytes to ``address``, where ``size_bytes`` are reserved."""
        raise NotImplementedError  # an abstract method; abc would cost a metaclass check on every construction

    def sha256(self) -> str | None:
        """Return the digest of the bytes, of which this makes a copy. For what is too large to be kept.

        None where the bytes cannot be had without waiting.
        """
        copy = ctypes.create_string_buffer(max(1, self.size_bytes))
        self.copy_to(ctypes.addressof(copy))
        return hashlib.sha256(memoryview(copy)[: self.size_bytes]).hexdigest()


class MemoryLeaf(Leaf):
    """A stretch of memory at ``source`` kept alive by ``owner``; copied by one memmove that releases the GIL."""

    __slots__ = ("_owner", "source")

    def __init__(self, source: int, size_bytes: int, owner: object) -> None:
        self.source = source
        self.size_bytes = size_bytes
        self._owner = owner

    def copy_to(self, address: int) -> None:
        ctypes.memmove(address, self.source, self.size_bytes)

    def sha256(self) -> str:
        """Return the digest of the bytes, read where they are."""
        return hashlib.sha256((ctypes.c_char * self.size_bytes).from_address(self.source)).hexdigest()


class ArrayLeaf(Leaf):
    """A numpy array whose memory is not in C order; written to the ring in C order without a temporary copy."""

    __slots__ = ("_array",)

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.size_bytes = array.nbytes

    def copy_to(self, address: int) -> None:
        place = (ctypes.c_char * self.size_bytes).from_address(address)
        target: NDArray[Any] = np.ndarray(self._array.shape, dtype=self._array.dtype, buffer=memoryview(place))
        np.copyto(target, self._array)


class RemoteLeaf(Leaf):
    """A tensor on a GPU; its bytes come later (recorder.late), or where somebody waits for them."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any, size_bytes: int) -> None:
        self.tensor = tensor
        self.size_bytes = size_bytes

    def copy_to(self, address: int) -> None:
        """Copy now, which waits for the device: for a caller that has nothing else to do, such as a replay."""
        memory = memory_of(self.tensor).cpu()
        ctypes.memmove(address, memory.data_ptr(), self.size_bytes)

    def sha256(self) -> str | None:
        """Return None: the caller does not wait for the device."""
        return None


class BytesLeaf(Leaf):
    """Encoded bytes, such as a JPEG the caller received."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)

    def copy_to(self, address: int) -> None:
        ctypes.memmove(address, self._data, self.size_bytes)


def is_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Say whether strides (in elements) lay the elements out without gaps or overlaps, in any order of dimensions."""
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(strides, shape, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def array_leaf(array: NDArray[Any]) -> tuple[Leaf, dict[str, Any]] | None:
    """Describe a numpy array; None when its dtype has no name in the format (objects, strings, big-endian)."""
    if array.dtype.name not in ITEM_SIZE_BYTES or not array.dtype.isnative:
        return None
    address: int = array.__array_interface__["data"][0]
    item = array.dtype.itemsize
    strides = tuple(stride // item for stride in array.strides)
    dense = all(stride % item == 0 for stride in array.strides) and (array.size == 0 or is_dense(array.shape, strides))
    leaf: Leaf = MemoryLeaf(address, array.nbytes, array) if dense else ArrayLeaf(array)
    return leaf, _tensor("numpy", array.dtype.name, array.shape, strides, address, "cpu", array.nbytes)


def tensor_leaf(tensor: Any) -> tuple[Leaf, dict[str, Any]] | None:
    """Describe a torch tensor; None when it has no plain memory (sparse, quantised, meta, a subclass of its own)."""
    import torch  # already loaded: the caller holds one of its tensors

    if type(tensor) is not torch.Tensor and not isinstance(tensor, torch.nn.Parameter):
        return None
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or dtype not in ITEM_SIZE_BYTES or tensor.device.type == "meta":
        return None
    shape, strides = tuple(tensor.shape), tensor.stride()
    size_bytes = tensor.numel() * ITEM_SIZE_BYTES[dtype]
    device, memory = "cpu", tensor
    address = tensor.data_ptr()
    if is_remote(tensor):
        described = _tensor("torch", dtype, shape, strides, address, str(tensor.device), size_bytes)
        return RemoteLeaf(tensor, size_bytes), described
    if tensor.device.type != "cpu":
        device, memory = str(tensor.device), tensor.detach().to("cpu")
    if memory.is_conj() or memory.is_neg():
        memory = memory.detach().resolve_conj().resolve_neg()
    if not (memory.is_contiguous() or size_bytes == 0 or is_dense(shape, memory.stride())):
        memory = memory.detach().contiguous()
    leaf = MemoryLeaf(memory.data_ptr(), size_bytes, memory)
    return leaf, _tensor("torch", dtype, shape, strides, address, device, size_bytes)


def _tensor(
    container: str,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    address: int,
    device: str,
    size_bytes: int,
) -> dict[str, Any]:
    return {
        "container": container,
        "dtype": dtype,
        "shape": shape,
        "strides": strides,
        "alignment": address % ALIGNMENT_BYTES,
        "device": device,
        "size_bytes": size_bytes,
    }
