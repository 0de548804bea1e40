"""What several test files of this room need: tagged values, and a model's way through the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recorder.export_child import export_document
from recorder.models import ModelStore, layouts_of, skeleton, tensors_of_module
from replay.graph.document import LoadedGraph, load_graph
from replay.worker.weights import load_weights


def tagged(value: Any) -> dict[str, Any]:
    """The tagged JSON form of a value (recorder.bundle.values)."""
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        tensor = {"container": "torch", "dtype": dtype, "shape": list(value.shape), "strides": list(value.stride())}
        return {"tensor": tensor}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [tagged(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[key, tagged(item)] for key, item in value.items()]}
    return {"scalar": value}


def exported(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, any_size: bool = False, **settings: Any
) -> bytes:
    """The graph document of a module, exported in this process."""
    return export_document(skeleton(module), tagged(args), tagged(kwargs), settings, any_size=any_size)


def stored(module: torch.nn.Module, graph: bytes, directory: Path) -> LoadedGraph:
    """A module's graph over its weights after a way through the store."""
    tensors = tensors_of_module(module)
    store = ModelStore(directory)
    weights = store.put_weights(tensors)
    loaded = load_weights(store.path_of(weights.digest, "weights"), weights.digest, layouts_of(tensors))
    return load_graph(graph, loaded)


def leaves(value: Any) -> list[Any]:
    """Tensors and scalars of a nested value, in order."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def same_bits(left: Any, right: Any) -> bool:
    """Whether two answers agree in structure, dtype, shape, strides and every bit."""
    ours, theirs = leaves(left), leaves(right)
    return type(left) is type(right) and len(ours) == len(theirs) and all(map(_same_leaf, ours, theirs))


def _same_leaf(left: Any, right: Any) -> bool:
    if not isinstance(left, torch.Tensor):
        return bool(left == right)
    return (left.dtype, left.shape, left.stride()) == (right.dtype, right.shape, right.stride()) and torch.equal(
        _bits(left), _bits(right)
    )


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view(-1).view(torch.uint8)
