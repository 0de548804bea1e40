"""Load and apply recorded weights: what is hashed is what is loaded, and it lies where it lay."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from recorder.bundle.manifest import TensorLayout
from recorder.models.state import StateNames
from recorder.models.tensors import tensors_of_module
from recorder.models.weights_file import SAFETENSORS_DTYPES

__all__ = ["WeightsRefused", "apply_weights", "assign", "laid_out", "load_weights"]

_DTYPES = {name: dtype for dtype, name in SAFETENSORS_DTYPES.items()}
#: The header of a model with a hundred thousand tensors is about 10 MB.
MAX_HEADER_BYTES = 100 * 2**20
MAX_DIMENSIONS = 64
ALIGNMENT_BYTES = 64
_CHUNK_BYTES = 4 * 2**20
#: A weight that is a slice of a larger tensor has gaps between its rows; larger gaps than this are an attack on memory.
_MAX_SPREAD = 64


class WeightsRefused(Exception):
    """The weights cannot be used; the message is one sentence with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    size_bytes: int


def load_weights(
    path: str | os.PathLike[str], expected_digest: str, layouts: dict[str, TensorLayout]
) -> dict[str, torch.Tensor]:
    """Read a weights file into fresh CPU memory with the recorded strides and alignment.

    Args:
        path: a safetensors file.
        expected_digest: its sha256 hex; checked over the very bytes that are loaded.
        layouts: by tensor name (manifest.Model.layouts); others are C-contiguous at an address divisible by 64.

    Raises:
        WeightsRefused: missing, damaged, of another digest, or laid out as no tensor can be.
    """
    file_path = Path(path)
    try:
        with file_path.open("rb") as file:
            digest = hashlib.sha256()
            size_bytes = os.fstat(file.fileno()).st_size
            entries = _read_header(file, size_bytes, digest)
            tensors = {entry.name: _read_tensor(file, entry, layouts.get(entry.name), digest) for entry in entries}
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WeightsRefused(
            f"The weights {file_path.name} cannot be read ({reason}); point --models at the store that has them."
        ) from error
    if digest.hexdigest() != expected_digest:
        raise WeightsRefused(
            f"The weights file has the digest {digest.hexdigest()[:12]}… and not the recorded {expected_digest[:12]}…; "
            "fetch the right one."
        )
    return tensors


def apply_weights(
    module: torch.nn.Module,
    tensors: dict[str, torch.Tensor],
    training_modules: tuple[str, ...] | list[str],
    state: tuple[str, ...] | list[str] = (),
) -> None:
    """Put recorded weights in the place of a module's own, keeping their memory, and set its training flags.

    Args:
        module: from the user's factory.
        tensors: as `load_weights` returns them.
        training_modules: paths of the modules that were in training mode (manifest.Model.training_modules).
        state: patterns of the tensors that are no weights (manifest.Model.state); they stay as they are.

    Raises:
        WeightsRefused: the module's tensors are others than the recorded ones; nothing was changed then.
    """
    own = StateNames(state).weights(tensors_of_module(module))
    _check_same(own, tensors)
    modules = dict(module.named_modules())
    if unknown := [path for path in training_modules if path not in modules]:
        raise WeightsRefused(f"The factory's model has no module {unknown[0]!r}; it is another architecture.")
    made: dict[int, torch.Tensor] = {}
    for name, tensor in tensors.items():
        # Tied weights stay tied: the first name's memory serves them all.
        new = made.setdefault(id(own[name]), _like(own[name], tensor))
        assign(module, name.split("."), new)
    for path, submodule in modules.items():
        submodule.training = path in training_modules


def laid_out(own: dict[str, torch.Tensor], layouts: dict[str, TensorLayout]) -> dict[str, torch.Tensor]:
    """Copy a factory's own weights, already checked, into memory that lies as the recorded ones did.

    Raises:
        WeightsRefused: a recorded layout fits no tensor.
    """
    made: dict[int, torch.Tensor] = {}
    found = {}
    for name, tensor in own.items():
        if id(tensor) not in made:
            layout = layouts.get(name)
            contiguous = _contiguous_strides(tuple(tensor.shape))
            entry = _Entry(
                name=name,
                dtype=tensor.dtype,
                shape=tuple(tensor.shape),
                size_bytes=tensor.numel() * tensor.element_size(),
            )
            made[id(tensor)] = _placed(tensor.detach(), entry, layout or TensorLayout(strides=contiguous, alignment=0))
        found[name] = made[id(tensor)]
    return found


def _placed(tensor: torch.Tensor, entry: _Entry, layout: TensorLayout) -> torch.Tensor:
    extent = _extent(entry, layout.strides)
    if not 0 <= layout.alignment < ALIGNMENT_BYTES:
        raise WeightsRefused(f"The recorded alignment of the weight {entry.name[:100]!r} is none; bundle damaged.")
    if not entry.size_bytes:
        return torch.empty_strided(entry.shape, layout.strides, dtype=entry.dtype)
    memory = _memory(extent * entry.dtype.itemsize, layout.alignment)
    placed = torch.frombuffer(memory, dtype=entry.dtype).as_strided(entry.shape, layout.strides)
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in layout.strides)
    placed[once].copy_(tensor[once])
    return placed


def _read_header(file: IO[bytes], size_bytes: int, digest: Any) -> list[_Entry]:
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) != 8 or length > min(MAX_HEADER_BYTES, size_bytes - 8):
        raise WeightsRefused("The weights file has no valid safetensors header; fetch it again.")
    text = file.read(length)
    digest.update(prefix)
    digest.update(text)
    try:
        header = json.loads(text.decode())
        header.pop("__metadata__", None)
        entries = [_entry(name, fields) for name, fields in header.items()]
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise WeightsRefused("The weights file has no valid safetensors header; fetch it again.") from error
    entries.sort(key=lambda item: item[0])
    end = 0
    for begin, entry in entries:
        if begin != end:
            raise WeightsRefused("The weights file has gaps or overlaps between its tensors; fetch it again.")
        end += entry.size_bytes
    if 8 + length + end != size_bytes:
        raise WeightsRefused("The weights file is truncated or has bytes that belong to no tensor; fetch it again.")
    return [entry for _, entry in entries]


def _entry(name: str, fields: dict[str, Any]) -> tuple[tuple[int, int], _Entry] | Any:
    begin, end = fields["data_offsets"]
    shape = tuple(fields["shape"])
    if not all(type(size) is int and 0 <= size < 2**48 for size in (*shape, begin, end)) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(name)
    dtype = _DTYPES[fields["dtype"]]
    size_bytes = math.prod(shape) * dtype.itemsize
    if end - begin != size_bytes:
        raise ValueError(name)
    return begin, _Entry(name=name, dtype=dtype, shape=shape, size_bytes=size_bytes)


def _read_tensor(file: IO[bytes], entry: _Entry, layout: TensorLayout | None, digest: Any) -> torch.Tensor:
    """Read one tensor's bytes, in C order in the file, into memory of the recorded layout."""
    contiguous = _contiguous_strides(entry.shape)
    strides = layout.strides if layout else contiguous
    alignment = layout.alignment if layout else 0
    extent = _extent(entry, strides)
    if not 0 <= alignment < ALIGNMENT_BYTES:
        raise WeightsRefused(f"The recorded alignment of the weight {entry.name[:100]!r} is none; bundle damaged.")
    target = _memory(extent * entry.dtype.itemsize, alignment)
    in_place = strides == contiguous
    content = target if in_place else _memory(entry.size_bytes, 0)
    view = content.data[: entry.size_bytes]
    for start in range(0, entry.size_bytes, _CHUNK_BYTES):
        chunk = view[start : start + _CHUNK_BYTES]
        if file.readinto(chunk) != len(chunk):  # type: ignore[attr-defined]
            raise WeightsRefused("The weights file was cut short while it was read; fetch it again.")
        digest.update(chunk)
    if not entry.size_bytes:
        return torch.empty_strided(entry.shape, strides, dtype=entry.dtype)
    tensor = torch.frombuffer(target, dtype=entry.dtype).as_strided(entry.shape, strides)
    if not in_place:
        values = torch.frombuffer(content, dtype=entry.dtype).reshape(entry.shape)
        # A stride of 0 means that one element stands for the whole dimension: write it once.
        once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)
        tensor[once].copy_(values[once])
    return tensor


def _extent(entry: _Entry, strides: tuple[int, ...]) -> int:
    """How many elements the memory must have for these strides."""
    if len(strides) == len(entry.shape) and all(stride >= 0 for stride in strides):
        extent = 1 + sum((size - 1) * stride for size, stride in zip(entry.shape, strides, strict=True) if size)
        if extent <= _MAX_SPREAD * max(math.prod(entry.shape), 1024):
            return extent
    raise WeightsRefused(
        f"The recorded strides of the weight {entry.name[:100]!r} fit no tensor; the bundle is damaged."
    )


def _memory(size_bytes: int, alignment: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Fresh bytes at an address with that remainder modulo 64."""
    block = np.zeros(size_bytes + ALIGNMENT_BYTES, np.uint8)
    offset = (alignment - block.ctypes.data) % ALIGNMENT_BYTES
    return block[offset : offset + size_bytes]


def _contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _check_same(own: dict[str, torch.Tensor], recorded: dict[str, torch.Tensor]) -> None:
    if missing := sorted(own.keys() - recorded.keys()):
        raise WeightsRefused(f"The factory's model has {_some(missing)} that the recorded weights lack; wrong factory?")
    if extra := sorted(recorded.keys() - own.keys()):
        raise WeightsRefused(f"The recorded weights have {_some(extra)} that the factory's model lacks; wrong factory?")
    for name, tensor in recorded.items():
        mine = own[name]
        if mine.shape != tensor.shape or mine.dtype != tensor.dtype:
            raise WeightsRefused(
                f"The weight {name[:100]!r} was recorded as {tensor.dtype} {tuple(tensor.shape)}, "
                f"and the factory's model has {mine.dtype} {tuple(mine.shape)}; wrong factory?"
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name[:100]) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _like(own: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    placed = tensor.to(own.device) if own.device.type != "meta" else tensor
    if isinstance(own, torch.nn.Parameter):
        return torch.nn.Parameter(placed, requires_grad=own.requires_grad)
    return torch.nn.Buffer(placed) if isinstance(own, torch.nn.Buffer) else placed


def assign(module: torch.nn.Module, path: list[str], tensor: torch.Tensor) -> None:
    """Put a tensor into a module: submodules as far as they go, then an attribute, perhaps inside a list or dict."""
    name, *rest = path
    child = module._modules.get(name)
    if rest and child is not None:
        assign(child, rest, tensor)
    elif not rest and name in module._parameters:
        module._parameters[name] = tensor  # type: ignore[assignment]
    elif not rest and name in module._buffers:
        module._buffers[name] = tensor
    else:
        # Names of attributes may hold dots only through containers, whose keys follow.
        module.__dict__[name] = _replaced(module.__dict__[name], rest, tensor)


def _replaced(value: Any, path: list[str], tensor: torch.Tensor) -> Any:
    if not path:
        return tensor
    key, *rest = path
    if isinstance(value, dict):
        real = key if key in value else int(key)
        return {**value, real: _replaced(value[real], rest, tensor)}
    index = int(key)
    items = [*value[:index], _replaced(value[index], rest, tensor), *value[index + 1 :]]
    return tuple(items) if isinstance(value, tuple) else items
