"""The child of `replay model add`: runs a factory that the user named, and stores what it builds."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from typing import Any

import torch

from recorder.bundle.manifest import Graph
from recorder.bundle.signature import call_signature
from recorder.export import export_graph
from recorder.models import (
    ModelStore,
    SkeletonFailed,
    StoreDamaged,
    StoreUnavailable,
    WeightsUnreadable,
    layouts_of,
    skeleton,
    tensors_of_module,
)
from replay.graph.document import GraphRefused, load_graph
from replay.worker.weights import WeightsRefused, load_weights

__all__ = ["deploy", "main"]

_EXPORT_TIMEOUT_SECONDS = 600


def main(request: dict[str, Any]) -> None:
    """Answer one request with one JSON object on stdout; what the factory prints goes to stderr."""
    reply = os.dup(1)
    os.dup2(2, 1)
    answer = deploy(request["factory"], ModelStore(request["store"]), request["inputs"])
    with os.fdopen(reply, "w") as stdout:
        json.dump(answer, stdout)


def deploy(factory: str, store: ModelStore, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Build the model, store its weights and, given its inputs' shapes and dtypes, its graph.

    Returns:
        ``{"weights": {"digest", "size_bytes"} | None, "graph": {"signature", "digest", "size_bytes"} | None,
        "problems": [sentence]}``.
    """
    answer: dict[str, Any] = {"weights": None, "graph": None, "problems": []}
    try:
        module = _build(factory)
        weights = store.put_weights(tensors_of_module(module))
        answer["weights"] = {"digest": weights.digest, "size_bytes": weights.size_bytes}
        if inputs:
            graph = _put_graph(store, module, weights.digest, tuple(_example(each) for each in inputs))
            answer["graph"] = dataclasses.asdict(graph)
    except (_Failed, SkeletonFailed, StoreDamaged, StoreUnavailable, WeightsUnreadable) as error:
        answer["problems"].append(str(error))
    return answer


class _Failed(Exception):
    """One sentence for the answer's problems."""


def _build(factory: str) -> torch.nn.Module:
    module_name, _, function_name = factory.partition(":")
    try:
        module = getattr(importlib.import_module(module_name), function_name)()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise _Failed(f"The factory {factory} could not be run ({reason}).") from error
    if not isinstance(module, torch.nn.Module):
        raise _Failed(f"The factory {factory} returned a {type(module).__name__} and not a torch module.")
    return module


def _example(form: dict[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, form["dtype"])
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.rand(form["shape"], generator=generator).to(dtype)
    return torch.zeros(form["shape"], dtype=dtype)


def _put_graph(
    store: ModelStore, module: torch.nn.Module, weights_digest: str, inputs: tuple[torch.Tensor, ...]
) -> Graph:
    args = {"tuple": [_tagged(tensor) for tensor in inputs]}
    kwargs: dict[str, Any] = {"dict": []}
    result = export_graph(skeleton(module), args, kwargs, timeout_seconds=_EXPORT_TIMEOUT_SECONDS)
    if result.graph is None:
        raise _Failed(result.reason or "The model could not be exported.")
    tensors = tensors_of_module(module)
    path = store.path_of(weights_digest, "weights")
    try:
        graph = load_graph(result.graph, load_weights(path, weights_digest, layouts_of(tensors)))
    except (GraphRefused, WeightsRefused) as error:
        raise _Failed(f"{error} The graph was not stored; replay will need --model.") from error
    if not _same_answer(module, graph, inputs):
        raise _Failed(
            "The exported graph does not give the model's answer; it was not stored; replay will need --model."
        )
    digest, size_bytes = store.put_graph(result.graph)
    stored = Graph(signature=call_signature(args, kwargs), digest=digest, size_bytes=size_bytes)
    store.remember_graph(weights_digest, stored)
    return stored


def _tagged(tensor: torch.Tensor) -> dict[str, Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    shape, strides = list(tensor.shape), list(tensor.stride())
    return {"tensor": {"container": "torch", "dtype": dtype, "shape": shape, "strides": strides}}


def _same_answer(module: torch.nn.Module, graph: Any, inputs: tuple[torch.Tensor, ...]) -> bool:
    answers = []
    for run in (module, graph):
        torch.manual_seed(0)
        with torch.no_grad():
            answers.append(torch.utils._pytree.tree_flatten(run(*[tensor.clone() for tensor in inputs])))
    (ours, our_form), (theirs, their_form) = answers
    return our_form == their_form and all(map(_same_leaf, ours, theirs))


def _same_leaf(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    return bool(ours == theirs)
