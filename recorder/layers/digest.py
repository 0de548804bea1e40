"""The digest of one tensor: an exact 64-bit hash, and a sketch from which the distance of two tensors is estimated.

Both read the elements in logical (C) order, so neither strides nor the device change them. The sketch is a count
sketch (Charikar, Chen, Farach-Colton 2002; its norm is the AMS estimate): element ``i`` is added with a random sign to
bucket ``i % 61``. The sketch of a difference is the difference of the sketches, and the squared norm of a sketch has
the squared norm of the tensor as its mean, with a relative standard deviation of about ``sqrt(2 / 61)``: 18 %, so 9 %
of the norm.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

__all__ = ["BUCKETS", "SAMPLED", "hash_number", "hash_tensor", "is_digestible", "sample_tensor", "sketch_tensor"]

#: A prime, so that no channel count shares a factor with it and lands in one bucket; 244 bytes as float32.
BUCKETS = 61

#: The signs repeat after this many elements: a megabyte of int8 is enough for any feature map.
_PERIOD = BUCKETS * 2**14

#: Elements that a sketch made at capture looks at: of a fault in one of a hundred channels it sees some eighty.
SAMPLED = 8192

#: Elements brought to float64 in one go.
_CHUNK = _PERIOD


def is_digestible(value: object) -> bool:
    """Whether a value is a tensor whose elements lie in memory as its dtype says."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
        return False
    return not value.is_meta and not value.is_nested and type(value) in (torch.Tensor, torch.nn.Parameter)


def hash_tensor(tensor: torch.Tensor) -> str:
    """Return 16 hex digits: xxh3-64 of the elements' bytes, little-endian, in C order."""
    return f"{hash_number(tensor):016x}"


def hash_number(tensor: torch.Tensor) -> int:
    """Return the hash as an unsigned 64-bit integer."""
    return xxhash.xxh3_64_intdigest(_bytes(_plain(tensor)).numpy().data)


def sketch_tensor(tensor: torch.Tensor) -> NDArray[np.float64] | None:
    """Return the sketch, BUCKETS float64, of a floating-point or integer tensor; None where it would say nothing.

    NaN and infinities count as 0: where two tensors differ in those alone, the hashes tell.
    """
    plain = _plain(tensor)
    if plain.dtype.is_complex:
        plain = torch.view_as_real(plain)
    flat = plain.reshape(-1)
    if not flat.numel():
        return None
    signs = _signs()
    total = np.zeros(BUCKETS)
    for start in range(0, flat.numel(), _CHUNK):
        chunk = flat[start : start + _CHUNK].to("cpu", torch.float64).numpy()
        if not np.isfinite(chunk).all():
            chunk = np.nan_to_num(chunk, nan=0.0, posinf=0.0, neginf=0.0)
        signed = chunk * signs[: chunk.size]
        whole = signed.size - signed.size % BUCKETS
        total += signed[:whole].reshape(-1, BUCKETS).sum(0)
        total[: signed.size - whole] += signed[whole:]
    return total


def sample_tensor(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Return a sketch of evenly spaced elements, at most SAMPLED, scaled to the norm of all: quick enough for capture.

    All zeros for an empty tensor. The spacing is odd, so that it does not fall in step with the channels.
    """
    flat = _plain(tensor).reshape(-1)
    step = flat.numel() // SAMPLED | 1
    sample = flat[::step].to("cpu", torch.float32).numpy()
    whole = np.zeros(-(-sample.size // BUCKETS) * BUCKETS, np.float32)
    np.multiply(sample, _signs()[: sample.size], out=whole[: sample.size])
    total = whole.reshape(-1, BUCKETS).sum(0, dtype=np.float32) * np.float32(step**0.5)
    return total if np.isfinite(total).all() else np.zeros(BUCKETS, np.float32)


@functools.cache
def _signs() -> NDArray[np.int8]:
    """The same on every machine and in every version: bits of SHAKE-256."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(b"vision-flight-recorder").digest(_PERIOD // 8), np.uint8))
    return (bits.astype(np.int8) * 2 - 1)[:_PERIOD]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().resolve_conj().resolve_neg().contiguous()


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.cpu().reshape(-1)
    return flat.view(torch.uint8) if flat.numel() else torch.zeros(0, dtype=torch.uint8)
