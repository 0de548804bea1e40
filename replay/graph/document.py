"""Run a stored graph safely: an interpreter over a document that was checked, value by value, before anything ran.

A graph document (its form: recorder.graph_format) comes from a model store that others can write to. It is parsed as
JSON with bounds, each node's operator is looked up in a closed list (replay.graph.operators), each argument is checked
against that operator's own schema, and the result is a list of calls (replay.graph.run). No code is generated, nothing
is evaluated, imported or unpickled; a graph can only compute. What it may ask for is bounded, and the memory limit of
the worker process that runs it bounds the rest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import torch

from recorder.graph_sizes import is_integer_operator
from replay.graph.arguments import MAX_DEPTH, GraphRefused, Kind, Ref, argument, constant, kind_of_result, whole_number
from replay.graph.operators import MODE_REGIONS, OPERATORS, ZEROED
from replay.graph.run import Body, Input, LoadedGraph, Observation, Step
from replay.graph.sizes import bounded, integer_node
from replay.graph.structure import call_pattern, refs_of, structure

__all__ = ["GraphRefused", "LoadedGraph", "load_graph"]

FORMAT_NAME = "vision-flight-recorder/graph"
#: 2: sizes of inputs may be open.
FORMAT_VERSIONS = (1, 2)

MAX_GRAPH_BYTES = 64 * 2**20
#: A thousand-layer network exports some ten thousand nodes.
MAX_NODES = 200_000
#: Path of a module as attribute access writes it; it is only ever shown.
_MODULE_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
MAX_MODULE_PATH_CHARS = 256
#: Regions inside regions; a forward pass nests no_grad and autocast two or three deep.
MAX_REGIONS = 8


def load_graph(graph: bytes, weights: dict[str, torch.Tensor], *, device: str = "cpu") -> LoadedGraph:
    """Check a graph document and make it callable.

    Args:
        graph: the document, verified against its digest by the caller.
        weights: by name, from `replay.worker.weights.load_weights`; used in place: a graph that updates them
            changes them.
        device: where the graph runs; the weights and inputs must be there.

    Raises:
        GraphRefused: the document is damaged, hostile or of a newer version, an operator or an argument is not on the
            list, or a weight is missing; the message is one sentence.
    """
    return _Loader(_parse(graph), weights, torch.device(device)).load()


class _Loader:
    """One pass over the document; every method refuses what it does not know."""

    def __init__(self, document: dict[str, Any], weights: dict[str, torch.Tensor], device: torch.device) -> None:
        self._document = document
        self._weights = weights
        self._device = device
        self._budget = MAX_NODES
        self._observation = Observation()
        self._open_sizes = document["version"] > 1

    def load(self) -> LoadedGraph:
        changing = {
            number: (str(entry["name"]), _input(entry["state"]))
            for number, entry in enumerate(_items(self._document, "weights"))
            if isinstance(entry, dict) and isinstance(entry.get("name"), str) and "state" in entry
        }
        state = [self._weight(entry) for entry in _items(self._document, "weights")]
        weight_count = len(state)
        names = [entry["name"] for entry in self._document["weights"]]
        state += [constant(entry, self._device) for entry in _items(self._document, "constants")]
        inputs = [_input(entry, open_sizes=self._open_sizes) for entry in _items(self._document, "inputs")]
        kinds = [Kind.TENSOR] * (len(state) + len(inputs))
        numbers = range(len(state), len(kinds))
        call = (
            call_pattern(self._document.get("args"), numbers, tuple),
            call_pattern(self._document.get("kwargs"), numbers, dict),
        )
        mutations = [_mutation(entry, weight_count) for entry in _items(self._document, "mutations")]
        results = [self._document.get("output"), *(value for _, value in mutations)]
        body = self._body(self._document, results, kinds, MAX_REGIONS, keep=len(kinds))
        return LoadedGraph(
            names=[*names, *(f"constant {number}" for number in range(len(state) - weight_count))],
            state=state,
            inputs=inputs,
            call=call,
            body=body,
            mutations=[number for number, _ in mutations],
            changing=changing,
        )

    def _weight(self, entry: Any) -> torch.Tensor:
        match entry:
            case {"name": str(), "state": dict()}:
                return torch.empty(0, device=self._device)  # each call brings its own
            case {"name": str() as name, "requires_grad": bool() as requires_grad}:
                tensor = self._weights.get(name)
                if tensor is None:
                    raise GraphRefused(f"The graph uses a weight {name[:100]!r} that the weights file does not have.")
                # Kernels may be chosen by it, so it is restored; on an alias, to leave the caller's tensor as it is.
                return tensor.detach().requires_grad_(requires_grad and tensor.dtype.is_floating_point)
        raise GraphRefused("A weight of the graph has no name.")

    def _body(self, document: dict[str, Any], results: list[Any], kinds: list[Kind], depth: int, keep: int) -> Body:
        """Check the nodes that follow `kinds`; values below `keep` live on after their last use."""
        if depth == 0:
            raise GraphRefused(f"The graph nests more than {MAX_REGIONS} regions.")
        nodes = _items(document, "nodes")
        self._budget -= len(nodes)
        if self._budget < 0:
            raise GraphRefused(f"The graph has more than {MAX_NODES} nodes.")
        calls = []
        for node in nodes:
            call, args, kwargs, kind = self._node(node, kinds, depth)
            operator = "" if node["op"] == "getitem" or kind is Kind.INTEGER else node["op"]
            calls.append((call, args, kwargs, operator, _module_path(node)))
            kinds.append(kind)
        output = [structure(result, kinds, 0) for result in results]
        last_use = {ref.number: -1 for ref in refs_of(output)}
        releases: list[list[int]] = [[] for _ in calls]
        for position in reversed(range(len(calls))):
            _, args, kwargs, _, _ = calls[position]
            own = len(kinds) - len(calls) + position
            used = {ref.number for ref in refs_of((args, kwargs))} | {own}
            for number in used - last_use.keys():
                last_use[number] = position
                if number >= keep:
                    releases[position].append(number)
        steps = [
            Step(call, args, kwargs, tuple(release), operator, module)
            for (call, args, kwargs, operator, module), release in zip(calls, releases, strict=True)
        ]
        return Body(steps, output, self._observation)

    def _node(
        self, node: Any, kinds: list[Kind], depth: int
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Kind]:
        match node:
            case {"op": str() as name, "args": list() as args, **rest}:
                kwargs = rest.get("kwargs", {})
            case _:
                raise GraphRefused("A node of the graph is not an operator with arguments.")
        if not isinstance(kwargs, dict):
            raise GraphRefused("A node of the graph is not an operator with arguments.")
        if name == "getitem":
            return (*_getitem(args, kwargs, kinds), Kind.TENSOR)
        if self._open_sizes and is_integer_operator(name):
            return (*integer_node(name, args, kwargs, kinds), {}, Kind.INTEGER)
        if name in MODE_REGIONS:
            return (*self._region(name, args, kwargs, kinds, depth), Kind.SEQUENCE)
        name = ZEROED.get(name, name)
        if name not in OPERATORS:
            raise GraphRefused(f"The graph uses the operator {name[:100]!r}, which is not on the list of safe ones.")
        overload = _overload(name)
        formals = overload._schema.arguments
        if len(args) > len(formals):
            raise GraphRefused(f"{name} is given {len(args)} arguments and takes {len(formals)}.")
        by_name = {formal.name: formal for formal in formals}
        given = tuple(
            argument(name, formal, value, kinds, self._device) for formal, value in zip(formals, args, strict=False)
        )
        named = {}
        for key, value in kwargs.items():
            if key not in by_name:
                raise GraphRefused(f"{name} has no argument {key[:100]!r}.")
            named[key] = argument(name, by_name[key], value, kinds, self._device)
        sized = any(kinds[ref.number] is Kind.INTEGER for ref in refs_of((given, named)))
        call = bounded(overload, name, [formal.name for formal in formals], sized)
        return call, given, named, kind_of_result(overload)

    def _region(
        self, name: str, args: list[Any], kwargs: dict[str, Any], kinds: list[Kind], depth: int
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """A part of the pass under another gradient or autocast mode: its body is checked like the graph's own."""
        match name, args:
            case "higher_order.wrap_with_set_grad_enabled", [bool() as enabled, {"graph": dict() as graph}, *operands]:
                mode: Callable[[], Any] = lambda: torch.set_grad_enabled(enabled)  # noqa: E731
            case (
                "higher_order.wrap_with_autocast",
                [
                    "cpu" | "cuda",
                    dtype,
                    bool() as enabled,
                    bool() | None as cache,
                    {"graph": dict() as graph},
                    *operands,
                ],
            ):
                chosen, device_type = _autocast_dtype(dtype), self._device.type
                mode = lambda: torch.autocast(device_type, chosen, enabled, cache)  # noqa: E731
            case _:
                raise GraphRefused(f"{name} is given arguments of another form than it takes.")
        if kwargs or whole_number(graph.get("inputs"), MAX_NODES) != len(operands):
            raise GraphRefused(f"{name} is given arguments of another form than it takes.")
        refs = tuple(structure(operand, kinds, MAX_DEPTH) for operand in operands)
        if not all(isinstance(ref, Ref) and kinds[ref.number] is not Kind.SEQUENCE for ref in refs):
            raise GraphRefused(f"{name} is given something other than tensors.")
        body = self._body(graph, [graph.get("output")], [kinds[ref.number] for ref in refs], depth - 1, keep=0)

        def run(*operands: Any) -> Any:
            with mode():
                return body.run(list(operands))[0]

        return run, refs, {}


def _parse(graph: bytes) -> dict[str, Any]:
    if len(graph) > MAX_GRAPH_BYTES:
        raise GraphRefused(f"The graph has {len(graph)} bytes, more than the {MAX_GRAPH_BYTES} a graph may have.")
    try:
        document = json.loads(graph.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise GraphRefused("The graph is not a JSON document.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT_NAME:
        raise GraphRefused("The file is not a graph document of this recorder.")
    if document.get("version") not in FORMAT_VERSIONS or type(document["version"]) is not int:
        raise GraphRefused("The graph is of another version; replay with the vision-flight-recorder that wrote it.")
    return document


def _module_path(node: dict[str, Any]) -> str:
    path = node.get("module", "")
    if isinstance(path, str) and len(path) <= MAX_MODULE_PATH_CHARS and (not path or _MODULE_PATH.fullmatch(path)):
        return path
    raise GraphRefused("A node of the graph names a module that cannot be.")


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _items(document: dict[str, Any], key: str) -> list[Any]:
    items = document.get(key)
    if not isinstance(items, list) or len(items) > MAX_NODES:
        raise GraphRefused(f"The graph has no list of {key}.")
    return items


def _input(entry: Any, *, open_sizes: bool = False) -> Input:
    """One input's dtype and shape; where sizes may be open, the least and the most that each may be."""
    if not isinstance(entry, dict) or not isinstance(shape := entry.get("shape"), list):
        raise GraphRefused("A constant or input of the graph has no valid dtype, shape and bytes.")
    least, most = zip(*(_range(size, open_sizes) for size in shape), strict=True) if shape else ((), ())
    tensor = constant({**entry, "shape": list(least), "data": None}, torch.device("meta"))
    return Input(tensor.dtype, tuple(tensor.shape), tuple(most))


def _range(size: Any, open_sizes: bool) -> tuple[Any, int | None]:
    match size:
        case {"size": [least, most]} if open_sizes and (most is None or whole_number(most, 2**62) is not None):
            return least, most
    return size, size if type(size) is int else None


def _mutation(entry: Any, weight_count: int) -> tuple[int, Any]:
    if isinstance(entry, dict) and (number := whole_number(entry.get("weight"), weight_count)) is not None:
        return number, entry.get("value")
    raise GraphRefused("The graph changes something that is not a weight.")


def _overload(name: str) -> Any:
    _, packet, overload = name.split(".")
    try:
        return getattr(getattr(torch.ops.aten, packet), overload)
    except AttributeError:
        version = torch.__version__
        raise GraphRefused(f"torch {version} has no operator {name}; replay with the recorded torch version.") from None


def _getitem(
    args: list[Any], kwargs: Any, kinds: list[Kind]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    match args:
        case [{"ref": number}, position] if not kwargs:
            number, position = whole_number(number, len(kinds)), whole_number(position, MAX_NODES)
            if number is not None and position is not None and kinds[number] is Kind.SEQUENCE:
                return _item, (Ref(number), position), {}
    raise GraphRefused("The graph takes an item of something that has none.")


def _item(sequence: Any, position: int) -> torch.Tensor | None:
    if not isinstance(sequence, tuple | list) or position >= len(sequence):
        raise GraphRefused("The graph takes an item that is not there.")
    item = sequence[position]
    if item is not None and not isinstance(item, torch.Tensor):  # None: attention weights that were not asked for
        raise GraphRefused("The graph takes an item that is not a tensor.")
    return item


def _autocast_dtype(value: Any) -> torch.dtype | None:
    match value:
        case None:
            return None
        case {"dtype": "bfloat16"}:
            return torch.bfloat16
        case {"dtype": "float16"}:
            return torch.float16
        case {"dtype": "float32"}:
            return torch.float32
    raise GraphRefused("The graph asks for autocast to something that is not a floating-point dtype.")
