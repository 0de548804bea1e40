"""Which tensors a module holds: parameters, buffers and plain attributes, by dotted name."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from recorder.bundle.manifest import TensorLayout
from recorder.models.compiled import is_wrapper, original_name

__all__ = [
    "CONTAINER_DEPTH",
    "MODULE_INTERNALS",
    "inside",
    "layouts_of",
    "tensors_of_module",
    "training_modules_of",
    "walk",
    "weights_version",
]

#: What every torch.nn.Module carries for itself; the rest of its ``__dict__`` is the user's.
MODULE_INTERNALS = frozenset(torch.nn.Module().__dict__)

#: Lists and dicts of tensors (a detector's anchors) are entered this deep; deeper nests are data, not weights.
CONTAINER_DEPTH = 3

#: A tensor whose address is a multiple of this, and C-contiguous, needs no layout entry.
ALIGNMENT_BYTES = 64


def tensors_of_module(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return every tensor that can decide the module's answer, by dotted name, sorted.

    Parameters, buffers (non-persistent ones too), and tensors in plain attributes of the module and its submodules,
    also inside lists, tuples, deques and dicts (``head.anchors.0``). A tensor reachable by
    several names keeps every name. The tensors are the live ones, not copies.
    """
    found: dict[str, torch.Tensor] = {}
    for prefix, submodule in walk(module, "", ()):
        for name, tensor in _own_tensors(submodule):
            found.setdefault(f"{prefix}{name}", tensor)
    return dict(sorted(found.items()))


def weights_version(tensors: dict[str, torch.Tensor]) -> int:
    """Return a cheap fingerprint (about 1 µs per tensor) that changes when a weight is changed or swapped.

    It sees in-place operations, ``load_state_dict``, replaced tensors and moved memory. It does not see writes through
    ``.data``, ``.numpy()`` or DLPack, nor in-place writes to inference tensors, which keep no version counter.
    """
    return hash(tuple((name, id(tensor), _address(tensor), _version(tensor)) for name, tensor in tensors.items()))


def layouts_of(tensors: dict[str, torch.Tensor]) -> dict[str, TensorLayout]:
    """Return how tensors lie in memory, only where that is not C-contiguous at an address divisible by 64 bytes."""
    layouts = {}
    for name, tensor in tensors.items():
        alignment = _address(tensor) % ALIGNMENT_BYTES
        if alignment or not tensor.is_contiguous():
            layouts[name] = TensorLayout(strides=tuple(tensor.stride()), alignment=alignment)
    return layouts


def training_modules_of(module: torch.nn.Module) -> tuple[str, ...]:
    """Return the dotted paths of the submodules in training mode, in definition order; "" is the module itself."""
    paths = (original_name(path) for path, submodule in module.named_modules() if submodule.training)
    return tuple(dict.fromkeys(paths))


def walk(
    module: torch.nn.Module, prefix: str, above: tuple[torch.nn.Module, ...]
) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield ``(prefix, submodule)``; a shared submodule once per name, one that contains itself not again.

    What torch.compile wraps around a module has no part in the names.
    """
    if any(module is ancestor for ancestor in above):
        return
    yield prefix, module
    inside_wrapper = is_wrapper(module)
    for name, child in list(module._modules.items()):
        if child is not None:
            yield from walk(child, prefix if inside_wrapper else f"{prefix}{name}.", (*above, module))


def _own_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for registered in (module._parameters, module._buffers):
        for name, tensor in list(registered.items()):
            if tensor is not None:
                yield name, tensor
    for name, value in list(module.__dict__.items()):
        if name not in MODULE_INTERNALS:
            yield from inside(name, value)


def inside(name: str, value: Any, depth: int = CONTAINER_DEPTH) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield ``(name, tensor)`` for the tensors of an attribute, itself or in containers so deep."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif depth and type(value) in (list, tuple, deque):
        for index, item in enumerate(value):
            yield from inside(f"{name}.{index}", item, depth - 1)
    elif depth and type(value) is dict:
        for key, item in list(value.items()):
            if isinstance(key, str | int):
                yield from inside(f"{name}.{key}", item, depth - 1)


def _version(tensor: torch.Tensor) -> int:
    # An inference tensor has no version counter and raises when asked.
    return -1 if tensor.is_inference() else tensor._version


def _address(tensor: torch.Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # sparse and other tensors without one storage
        return 0
