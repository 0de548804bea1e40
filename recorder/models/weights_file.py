"""The weights file: a safetensors file of one canonical form, so that its sha256 identifies the weights.

Canonical means: names sorted, no metadata, the JSON header without spaces and padded with spaces to a multiple of
8 bytes, then each tensor's elements in C order, little-endian, without gaps and in the order of the names.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from recorder.models.tensors import weights_version

__all__ = ["SAFETENSORS_DTYPES", "StreamedWeights", "WeightsChanged", "WeightsUnreadable", "stream_weights"]

#: Names that the safetensors format gives to torch's dtypes.
SAFETENSORS_DTYPES: dict[torch.dtype, str] = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
}

#: Hashed and written at once: large enough for the system calls not to matter, small enough to pace smoothly.
_CHUNK_BYTES = 2**20


class WeightsUnreadable(RuntimeError):
    """A tensor cannot be written as safetensors, or the streaming was stopped; the message says which and why."""


class WeightsChanged(WeightsUnreadable):
    """The weights changed while they were being read, so their digest would name no state they ever had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedWeights:
    """What was streamed: the sha256 hex and the size of the whole file."""

    digest: str
    size_bytes: int


def stream_weights(
    tensors: dict[str, torch.Tensor],
    write: Callable[[bytes | memoryview], object] | None = None,
    *,
    bytes_per_second: float | None = None,
    stop: threading.Event | None = None,
) -> StreamedWeights:
    """Stream the weights file of some tensors, one tensor in memory at a time, hashing on the way.

    Args:
        tensors: by name, as `tensors_of_module` returns them.
        write: takes each chunk; None computes the digest alone.
        bytes_per_second: pace, so that a host's other threads keep the memory bus and the disk; None: no pause.
        stop: when set by another thread, streaming ends with WeightsUnreadable.

    Raises:
        WeightsUnreadable: a tensor that safetensors has no form for, or stopped.
        WeightsChanged: a weight was changed meanwhile, as far as `weights_version` sees it.
    """
    header = _header(tensors)
    before = weights_version(tensors)
    digest, size_bytes = hashlib.sha256(), 0
    stop = stop or threading.Event()
    started = time.monotonic()
    for chunk in _chunks(header, tensors):
        digest.update(chunk)
        if write is not None:
            write(chunk)
        size_bytes += len(chunk)
        ahead_seconds = size_bytes / bytes_per_second - (time.monotonic() - started) if bytes_per_second else 0.0
        if stop.wait(ahead_seconds) if ahead_seconds > 0 else stop.is_set():
            raise WeightsUnreadable("Reading the weights was stopped before its end.")
    if weights_version(tensors) != before:
        raise WeightsChanged("The weights changed while they were being read; they are read again when they settle.")
    return StreamedWeights(digest=digest.hexdigest(), size_bytes=size_bytes)


def _header(tensors: dict[str, torch.Tensor]) -> bytes:
    entries, offset = {}, 0
    for name, tensor in sorted(tensors.items()):
        _check(name, tensor)
        size_bytes = tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size_bytes],
        }
        offset += size_bytes
    try:
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise WeightsUnreadable("A weight's name is not valid Unicode.") from error
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _check(name: str, tensor: torch.Tensor) -> None:
    if torch.nn.parameter.is_lazy(tensor):
        raise WeightsUnreadable(f"The weight {name!r} has no shape yet; run the model once before attaching it.")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise WeightsUnreadable(f"The weight {name!r} is not an ordinary dense tensor; its bytes have no file form.")
    if tensor.dtype not in SAFETENSORS_DTYPES:
        raise WeightsUnreadable(f"The weight {name!r} is of {tensor.dtype}, which safetensors has no name for.")
    if tensor.is_meta:
        raise WeightsUnreadable(f"The weight {name!r} is on the meta device and has no bytes.")
    if name == "__metadata__":
        raise WeightsUnreadable("A weight is named '__metadata__', which safetensors keeps for itself.")


def _chunks(header: bytes, tensors: dict[str, torch.Tensor]) -> Iterator[bytes | memoryview]:
    yield header
    for _, tensor in sorted(tensors.items()):
        if tensor.numel():
            view = memoryview(_bytes_of(tensor))
            for start in range(0, len(view), _CHUNK_BYTES):
                yield view[start : start + _CHUNK_BYTES]


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The elements in C order, little-endian; the tensor's own memory where it already lies so."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    array = plain.reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        width = plain.element_size() // (2 if plain.is_complex() else 1)
        array = array.reshape(-1, width)[:, ::-1].copy().reshape(-1)
    return array.data
