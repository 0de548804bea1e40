"""Models in a worker: a checked graph or ONNX file, or a trusted factory with the recorded weights. Imports torch."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from recorder.bundle.codec import from_json
from recorder.bundle.manifest import TensorLayout
from recorder.models.compiled import original_name, without_wrappers
from recorder.models.state import StateNames, StateRefused, put_state
from replay.show.text import inert
from replay.worker.sandbox import Forbidden

__all__ = ["LoadFailed", "Loaded", "load_model", "moved"]


class LoadFailed(Exception):
    """A model that cannot be had here; the message is one sentence with the remedy."""


@dataclass(slots=True)
class Loaded:
    """A model ready to be called."""

    call: Callable[..., Any]
    module: torch.nn.Module | None = None
    notes: list[str] = field(default_factory=list)  #: sentences: what of it is not the recorded model
    training_modules: frozenset[str] = frozenset()  #: paths recorded in training mode; "" is the root
    state: StateNames | None = None  #: which tensors each call brings along

    def put_state(self, state: dict[str, torch.Tensor]) -> None:
        """Put the model into the state that it had before a call.

        Raises:
            LoadFailed: it has no place for it.
        """
        from replay.graph.arguments import GraphRefused
        from replay.graph.run import LoadedGraph

        try:
            if isinstance(self.call, LoadedGraph):
                self.call.put_state(state)
            elif self.module is not None:
                put_state(self.module, self.state or StateNames(()), state)
            else:
                raise LoadFailed("the recorded model has a state, and this one is no module that could be given it")
        except (StateRefused, GraphRefused) as refused:
            raise LoadFailed(str(refused)) from refused

    def set_training(self, training: bool) -> None:
        """Follow the root's training flag, which a host may switch between calls."""
        if self.module is None or self.module.training == training:
            return
        if training == ("" in self.training_modules):
            self.restore_training()
        else:
            self.module.train(training)

    def restore_training(self) -> None:
        """Put every submodule into the mode it was recorded in."""
        if self.module is not None:
            for path, module in self.module.named_modules():
                module.training = path in self.training_modules


def load_model(request: dict[str, Any], graph: bytes, device: str) -> Loaded:
    """Build the model that a request names.

    Args:
        request: "source" ("graph", "onnx" or "factory"), "factory" (pkg.mod:fn, trusted by the user), "path" of the
            weights or ONNX file or None, "digest" of the recorded weights or None, "layouts", "training_modules",
            "state" (patterns of the tensors that are no weights),
            "add_path" (a directory to import the factory from), "options" of an ONNX session, "profile".
        graph: the graph document, where that is the source.
        device: where the model goes, all of it; an ONNX model stays on the CPU.

    Raises:
        LoadFailed: it cannot be had; nothing was left half-loaded.
    """
    layouts = {name: from_json(TensorLayout, item) for name, item in request["layouts"].items()}
    if request["source"] == "graph":
        return _from_graph(request, graph, layouts, device)
    if request["source"] == "onnx":
        return _from_onnx(request)
    names = {key: list(dict.fromkeys(map(original_name, request[key]))) for key in ("training_modules", "state")}
    try:
        state = StateNames(names["state"])
    except StateRefused as refused:
        raise LoadFailed(str(refused)) from refused
    return _from_factory(request | names, layouts, device, state)


def _from_graph(request: dict[str, Any], graph: bytes, layouts: dict[str, TensorLayout], device: str) -> Loaded:
    from replay.graph.document import GraphRefused, load_graph

    weights = _weights(request, layouts) if request["path"] is not None else {}
    try:
        placed = {name: tensor.to(device) for name, tensor in weights.items()} if device != "cpu" else weights
        return Loaded(load_graph(graph, placed, device=device))
    except GraphRefused as refused:
        raise LoadFailed(f"{refused}") from refused


def _from_onnx(request: dict[str, Any]) -> Loaded:
    from replay.worker.onnx import OnnxRefused, open_onnx

    try:
        call, notes = open_onnx(request["path"], request["digest"], request["options"], request["profile"])
    except OnnxRefused as refused:
        raise LoadFailed(str(refused)) from refused
    return Loaded(call, notes=notes)


def _from_factory(request: dict[str, Any], layouts: dict[str, TensorLayout], device: str, state: StateNames) -> Loaded:
    compiles: list[str] = []
    with _without_compiler(compiles):
        model = _call_factory(request["factory"], request["add_path"])
    if not isinstance(model, torch.nn.Module):
        if not callable(model):
            raise LoadFailed(f"the factory {request['factory']} returned something that cannot be called")
        notes = [] if request["digest"] is None else ["the factory's model has no weights that could be checked"]
        return Loaded(model, notes=[*compiles, *notes])
    model = without_wrappers(model)
    notes = compiles
    if request["path"] is not None:
        _apply(model, _weights(request, layouts), request)
    elif request["digest"] is not None:
        _check_own_weights(model, request)
        _lay_out(model, layouts, request)
    else:
        notes.append("the recorded weights are not known; the factory's own are used")
    loaded = Loaded(model, moved(model, device), notes, frozenset(request["training_modules"]), state)
    loaded.restore_training()
    return loaded


@contextlib.contextmanager
def _without_compiler(notes: list[str]) -> Iterator[None]:
    """Let torch.compile give back what it is given: a locked worker may start no compiler.

    Left in place where it was called, since a model may call it again in its forward pass.
    """

    def compile_nothing(model: Any = None, **options: Any) -> Any:
        if not notes:
            notes.append("the factory compiles the model: here it runs eagerly")
        return model if model is not None else lambda function: function

    def compile_not(module: torch.nn.Module, *args: Any, **options: Any) -> None:
        compile_nothing(module)

    before = torch.compile, torch.nn.Module.compile
    torch.compile, torch.nn.Module.compile = compile_nothing, compile_not  # type: ignore[method-assign, assignment]
    yield
    if not notes:
        torch.compile, torch.nn.Module.compile = before  # type: ignore[method-assign]


def _call_factory(name: str, add_path: str | None) -> Any:
    module_name, _, function = name.partition(":")
    if add_path is not None and add_path not in sys.path:
        sys.path.append(add_path)  # last, so that nothing there can pose as a library
    try:
        found: Any = importlib.import_module(module_name)
        for part in function.split("."):
            found = getattr(found, part)
        return found()
    except Forbidden as forbidden:
        raise LoadFailed(
            f"the factory {name} failed: {forbidden}; let it build the model without its weights"
        ) from None
    except BaseException as error:
        kind = type(error).__name__
        raise LoadFailed(f"the factory {name} failed: {kind}: {inert(error, 300)}") from error


def _weights(request: dict[str, Any], layouts: dict[str, TensorLayout]) -> dict[str, torch.Tensor]:
    from replay.worker.weights import WeightsRefused, load_weights

    try:
        weights = load_weights(request["path"], request["digest"], layouts)
    except WeightsRefused as refused:
        raise LoadFailed(str(refused)) from refused
    if request["source"] != "factory":
        return weights
    # Earlier versions named the weights of a compiled model after its wrapper.
    return {original_name(name): tensor for name, tensor in weights.items()}


def _apply(model: torch.nn.Module, tensors: dict[str, torch.Tensor], request: dict[str, Any]) -> None:
    from replay.worker.weights import WeightsRefused, apply_weights

    try:
        apply_weights(model, tensors, request["training_modules"], request["state"])
    except WeightsRefused as refused:
        raise LoadFailed(f"the recorded weights do not fit the model of {request['factory']}: {refused}") from refused


def moved(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """Move every tensor of a module, those in plain attributes too, which torch's own ``to`` leaves where they are."""
    from recorder.models import tensors_of_module
    from replay.worker.weights import assign

    model.to(device)
    made: dict[int, torch.Tensor] = {}
    for name, tensor in tensors_of_module(model).items():
        there = made.setdefault(id(tensor), tensor.to(device))
        if there is not tensor:
            assign(model, name.split("."), there)
    return model


def _lay_out(model: torch.nn.Module, layouts: dict[str, TensorLayout], request: dict[str, Any]) -> None:
    """Where weights lie changes bits, so the factory's own go where the recorded ones lay."""
    from recorder.models import tensors_of_module
    from replay.worker.weights import WeightsRefused, apply_weights, laid_out

    own = tensors_of_module(model)
    if any(tensor.device.type != "cpu" for tensor in own.values()):
        return
    try:
        apply_weights(model, laid_out(own, layouts), request["training_modules"])
    except WeightsRefused as refused:
        raise LoadFailed(str(refused)) from refused


def _check_own_weights(model: torch.nn.Module, request: dict[str, Any]) -> None:
    from recorder.models import StateNames, WeightsUnreadable, stream_weights, tensors_of_module

    try:
        own = stream_weights(StateNames(request["state"]).weights(tensors_of_module(model))).digest
    except WeightsUnreadable as error:
        raise LoadFailed(f"the weights of {request['factory']} cannot be checked: {error}") from error
    if own != request["digest"]:
        raise LoadFailed(
            f"the model of {request['factory']} has weights {own[:12]}…, recorded were {request['digest'][:12]}…; "
            "name the model store that holds those: --models LOCATION"
        )
