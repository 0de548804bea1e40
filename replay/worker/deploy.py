"""The child of `replay model add`: runs a factory that the user named, and stores what it builds."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Sequence
from typing import Any

import torch

from recorder.bundle.manifest import Graph
from recorder.bundle.signature import call_form, call_signature
from recorder.export import export_graph
from recorder.graph_sizes import OpenSizes
from recorder.models import (
    ModelStore,
    SkeletonFailed,
    StateNames,
    StateReader,
    StateRefused,
    StoreDamaged,
    StoreUnavailable,
    WeightsUnreadable,
    layouts_of,
    put_state,
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
    answer = deploy(request["factory"], ModelStore(request["store"]), request["inputs"], request["state"])
    with os.fdopen(reply, "w") as stdout:
        json.dump(answer, stdout)


def deploy(factory: str, store: ModelStore, inputs: list[dict[str, Any]], state: Sequence[str] = ()) -> dict[str, Any]:
    """Build the model, store its weights and, given its inputs' shapes and dtypes, its graph.

    The graph serves other sizes of the inputs too, as far as the model allows it. Of a model whose state is there only
    after its first call, a graph for later calls is stored as well.

    Args:
        factory: "pkg.mod:fn", trusted by the user.
        store: where weights and graph go.
        inputs: ``{"shape": [...], "dtype": name}`` of each positional input; none: no graph is made.
        state: patterns of the tensors that are state, as given to ``recorder.attach``.

    Returns:
        ``{"weights": {"digest", "size_bytes"} | None, "graph": {"signature", "digest", "size_bytes", "form"} | None,
        "problems": [sentence]}``; "form" is null where the graph serves these sizes alone.
    """
    answer: dict[str, Any] = {"weights": None, "graph": None, "problems": []}
    names = StateNames(state)
    try:
        module = _build(factory)
        weights = store.put_weights(names.weights(tensors_of_module(module)))
        answer["weights"] = {"digest": weights.digest, "size_bytes": weights.size_bytes}
        if inputs:
            deployment = _Deployment(store, module, weights.digest, names, tuple(_example(each) for each in inputs))
            answer["graph"] = dataclasses.asdict(deployment.put_graphs())
    except (_Failed, SkeletonFailed, StoreDamaged, StoreUnavailable, WeightsUnreadable, StateRefused) as error:
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
        raise _Failed(
            f"The factory {factory} could not be run ({reason}); it is called without arguments, with the working "
            "directory on the import path."
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise _Failed(f"The factory {factory} returned a {type(module).__name__} and not a torch module.")
    return module


def _example(form: dict[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, form["dtype"])
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.rand(form["shape"], generator=generator).to(dtype)
    return torch.zeros(form["shape"], dtype=dtype)


@dataclasses.dataclass(frozen=True, slots=True)
class _Deployment:
    """One model on its way into the store."""

    store: ModelStore
    module: torch.nn.Module
    weights: str
    names: StateNames
    inputs: tuple[torch.Tensor, ...]

    def put_graphs(self) -> Graph:
        """Store the graph of a first call, and that of a second one where a state came into being; return the last."""
        before = self._state()
        graph = self._put(before)
        if not self.names.patterns:
            return graph
        _answer(self.module, self.inputs)
        after = self._state()
        return self._put(after) if _shapes(after) != _shapes(before) else graph

    def _put(self, state: dict[str, torch.Tensor] | None) -> Graph:
        args = {"tuple": [_tagged(tensor) for tensor in self.inputs]}
        kwargs: dict[str, Any] = {"dict": []}
        tagged = None if state is None else {"dict": [[name, _tagged(tensor)] for name, tensor in state.items()]}
        result = export_graph(
            skeleton(self.module),
            args,
            kwargs,
            timeout_seconds=_EXPORT_TIMEOUT_SECONDS,
            state=None if tagged is None else (self.names.patterns, tagged),
            any_size=True,
        )
        if result.graph is None:
            raise _Failed(result.reason or "The model could not be exported.")
        self._prove(result.graph, state)
        digest, size_bytes = self.store.put_graph(result.graph)
        stored = Graph(signature=call_signature(args, kwargs, tagged), digest=digest, size_bytes=size_bytes)
        self.store.remember_graph(self.weights, stored)
        if OpenSizes.of(result.graph) is None:
            return stored
        general = dataclasses.replace(stored, form=call_form(args, kwargs, tagged))
        self.store.remember_graph(self.weights, general)
        return general

    def _prove(self, document: bytes, state: dict[str, torch.Tensor] | None) -> None:
        """Run the graph and the model on the same input, from the same state."""
        weights = self.names.weights(tensors_of_module(self.module))
        path = self.store.path_of(self.weights, "weights")
        try:
            graph = load_graph(document, load_weights(path, self.weights, layouts_of(weights)))
            if state is not None:
                graph.put_state(_copied(state))
            theirs = _answer(graph, self.inputs)
        except (GraphRefused, WeightsRefused) as error:
            raise _Failed(f"{error} The graph was not stored; replay will need --model.") from error
        if state is not None:
            put_state(self.module, self.names, _copied(state))
        ours = _answer(self.module, self.inputs)
        if state is not None:
            put_state(self.module, self.names, _copied(state))
        if ours[1] != theirs[1] or not all(map(_same_leaf, ours[0], theirs[0])):
            raise _Failed(
                "The exported graph does not give the model's answer; it was not stored; replay will need --model."
            )

    def _state(self) -> dict[str, torch.Tensor] | None:
        if not self.names.patterns:
            return None
        return _copied(StateReader(self.module, self.names).read(self.module))


def _tagged(tensor: torch.Tensor) -> dict[str, Any]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    shape, strides = list(tensor.shape), list(tensor.stride())
    return {"tensor": {"container": "torch", "dtype": dtype, "shape": shape, "strides": strides}}


def _answer(run: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[list[Any], Any]:
    torch.manual_seed(0)
    with torch.no_grad():
        return torch.utils._pytree.tree_flatten(run(*[tensor.clone() for tensor in inputs]))


def _copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _shapes(state: dict[str, torch.Tensor] | None) -> list[tuple[str, torch.dtype, torch.Size]]:
    return [(name, tensor.dtype, tensor.shape) for name, tensor in (state or {}).items()]


def _same_leaf(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    return bool(ours == theirs)
