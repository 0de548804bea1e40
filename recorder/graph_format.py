"""The graph document: an exported forward pass as plain JSON, in a form of our own.

Only the public parts of `torch.export` are used (the FX graph and its signature); nothing of torch's own serialiser,
whose reader evaluates symbolic strings, generates Python from node names and may unpickle. Source paths, stack traces,
argument names and example inputs are never written; of modules, the path alone.

::

    {"format": "vision-flight-recorder/graph", "version": 1, "torch": "2.13.0",
     "weights":   [{"name": "conv.weight", "requires_grad": true}, ...],       of one that is state, which is given with
                   each call, also "state": {"dtype": "float32", "shape": [1, 8]}
     "constants": [{"dtype": "float32", "shape": [3], "data": base64 of the little-endian bytes}, ...],
     "inputs":    [{"dtype": "float32", "shape": [1, 3, 224, 224]}, ...],
     "args": VALUE, "kwargs": VALUE,        how the inputs sit in the call; {"ref": i} for an input
     "nodes":     [{"op": "aten.conv2d.default", "args": [VALUE, ...], "kwargs": {name: VALUE},
                    "module": "features.0"}, ...],     the module's path; absent for the root, and in older graphs
     "mutations": [{"weight": i, "value": VALUE}, ...],     written back after the call
     "output": VALUE}

Values are numbered as they come into being: weights, constants, inputs, then one for each node; ``{"ref": i}`` names
one. A VALUE is ``null``, a boolean, an integer, a finite float, a string, or one of ``{"ref": i}``,
``{"list": [...]}``, ``{"tuple": [...]}``, ``{"dict": [[key, VALUE], ...]}``, ``{"float": "nan"|"inf"|"-inf"}``,
``{"dtype": name}``, ``{"device": "cpu"}``, ``{"layout": "strided"}``, ``{"memory_format": name}`` and, as an argument
of the two operators that set a mode for a part of the pass,
``{"graph": {"inputs": n, "nodes": [...], "output": VALUE}}``, which numbers its values anew: first its n inputs.
"""

from __future__ import annotations

import base64
import json
import math
import operator
import re
from collections import OrderedDict
from collections.abc import Collection, Container
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind, TensorArgument

from recorder.bundle.values import ITEM_SIZE_BYTES

__all__ = ["FORMAT_NAME", "FORMAT_VERSION", "GraphUnwritable", "graph_document"]

FORMAT_NAME = "vision-flight-recorder/graph"
FORMAT_VERSION = 1

#: A constant made in the forward pass (mean and deviation of a normalisation) is kept in the graph up to this size;
#: what is larger is data and belongs to the weights.
MAX_CONSTANT_BYTES = 16 * 2**10

#: What the reader takes (replay.graph.document).
_MODULE_PATH = re.compile(r"(?=.{1,256}$)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")

#: Checks that export inserts; they answer nothing.
_CHECKS = frozenset({"aten._assert_tensor_metadata.default", "aten._assert_async.msg", "aten._assert_scalar.default"})

_DTYPES = {getattr(torch, name): name for name in ITEM_SIZE_BYTES}
_MEMORY_FORMATS = {
    torch.contiguous_format: "contiguous_format",
    torch.channels_last: "channels_last",
    torch.channels_last_3d: "channels_last_3d",
    torch.preserve_format: "preserve_format",
}


class GraphUnwritable(RuntimeError):
    """The exported program has a part that the graph document has no form for; the message names it."""


def graph_document(
    program: ExportedProgram,
    weight_names: dict[int, str],
    module_paths: Collection[str] = (),
    state: Container[str] = (),
) -> bytes:
    """Write an exported program as a graph document.

    Args:
        program: from `torch.export.export`.
        weight_names: name in the weights file by ``id`` of the tensor, of every tensor the module holds.
        module_paths: of every module of the model; nodes are written with one of these or with none.
        state: the names of those that are given with each call.

    Raises:
        GraphUnwritable: a constant that is not among the weights, an operator outside ``aten`` …
    """
    return _Writer(program, weight_names, frozenset(module_paths), state).document()


class _Writer:
    def __init__(
        self,
        program: ExportedProgram,
        weight_names: dict[int, str],
        module_paths: frozenset[str],
        state: Container[str],
    ) -> None:
        self._state = state
        self._program = program
        self._weight_names = weight_names
        self._module_paths = module_paths
        self._module: torch.nn.Module = program.graph_module
        self._placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}

    def document(self) -> bytes:
        specs = self._program.graph_signature.input_specs
        weights, constants, inputs, leaves = [], [], [], []
        numbers: dict[torch.fx.Node, int] = {}
        order: list[tuple[int, str]] = []  # (section, placeholder name): sections are numbered one after the other
        for spec in specs:
            if spec.kind is InputKind.USER_INPUT:
                if isinstance(spec.arg, ConstantArgument):
                    leaves.append(_plain(spec.arg.value))
                    continue
                leaves.append(spec.arg.name)
                inputs.append(self._tensor_form(spec.arg.name))
                order.append((2, spec.arg.name))
            elif (name := self._weight_of(spec)) is not None:
                entry: dict[str, Any] = {"name": name, "requires_grad": self._requires_grad(spec)}
                weights.append(entry | ({"state": self._tensor_form(spec.arg.name)} if name in self._state else {}))
                order.append((0, spec.arg.name))
            else:
                constants.append(_constant(self._program.constants[str(spec.target)]))
                order.append((1, spec.arg.name))
        for number, (_, name) in enumerate(sorted(order, key=lambda item: item[0])):
            numbers[self._placeholders[name]] = number
        leaf_values = [{"ref": numbers[self._placeholders[x]]} if isinstance(x, str) else x["plain"] for x in leaves]
        args, kwargs = _structure(self._program.call_spec.in_spec, leaf_values)["tuple"]
        nodes = self._nodes(self._program.graph_module, numbers)
        mutations, output = self._outputs(numbers)
        document = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "torch": torch.__version__.partition("+")[0],
            "weights": weights,
            "constants": constants,
            "inputs": inputs,
            "args": args,
            "kwargs": kwargs,
            "nodes": nodes,
            "mutations": mutations,
            "output": output,
        }
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()

    def _weight_of(self, spec: InputSpec) -> str | None:
        """The weight's name in the weights file, None for a constant made in the forward pass."""
        target = str(spec.target)
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            return target
        if spec.kind is not InputKind.CONSTANT_TENSOR:
            raise GraphUnwritable(f"The forward pass uses an object of kind {spec.kind.name}, not a tensor.")
        constant = self._program.constants[target]
        if (name := self._weight_names.get(id(constant))) is not None:
            return name
        if type(constant) is not torch.Tensor or constant.is_meta:
            raise GraphUnwritable(f"The forward pass uses a tensor ({target}) that is not one of the module's weights.")
        return None

    def _requires_grad(self, spec: InputSpec) -> bool:
        return bool(self._placeholders[spec.arg.name].meta["val"].requires_grad)

    def _tensor_form(self, name: str) -> dict[str, Any]:
        value = self._placeholders[name].meta["val"]
        if not all(isinstance(size, int) for size in value.shape):
            raise GraphUnwritable("The exported graph has dynamic shapes.")
        return {"dtype": _DTYPES[value.dtype], "shape": list(value.shape)}

    def _nodes(self, module: torch.nn.Module, numbers: dict[torch.fx.Node, int]) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = []
        for node in module.graph.nodes:  # type: ignore[union-attr]
            if node.op in ("placeholder", "output", "get_attr"):
                continue
            name = _operator_name(node.target)
            if name in _CHECKS:
                continue
            form: dict[str, Any] = {"op": name, "args": [self._value(module, arg, numbers) for arg in node.args]}
            if node.kwargs:
                form["kwargs"] = {key: self._value(module, arg, numbers) for key, arg in node.kwargs.items()}
            nodes.append(form)
            if path := self._module_path(node):
                form["module"] = path
            numbers[node] = len(numbers)
        return nodes

    def _module_path(self, node: torch.fx.Node) -> str:
        """Path of the module that a node is part of: one that the weights' owner really has, or none."""
        stack = node.meta.get("nn_module_stack")
        path = next(reversed(stack.values()))[0] if stack else ""
        return path if path in self._module_paths and _MODULE_PATH.fullmatch(path) else ""

    def _value(self, module: torch.nn.Module, value: Any, numbers: dict[torch.fx.Node, int]) -> Any:
        if isinstance(value, torch.fx.Node):
            if value.op == "get_attr":
                return {"graph": self._subgraph(getattr(module, str(value.target)))}
            if value not in numbers:
                raise GraphUnwritable(f"The graph uses the result of a check ({value.target}).")
            return {"ref": numbers[value]}
        if isinstance(value, list | tuple):
            return {"list": [self._value(module, item, numbers) for item in value]}
        return _argument(value)

    def _subgraph(self, module: torch.nn.Module) -> dict[str, Any]:
        if not isinstance(module, torch.fx.GraphModule):
            raise GraphUnwritable("The graph uses an attribute that is not a part of it.")
        inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
        numbers = {node: number for number, node in enumerate(inputs)}
        nodes = self._nodes(module, numbers)
        [result] = [node for node in module.graph.nodes if node.op == "output"]
        return {"inputs": len(inputs), "nodes": nodes, "output": self._value(module, result.args[0], numbers)}

    def _outputs(self, numbers: dict[torch.fx.Node, int]) -> tuple[list[dict[str, Any]], Any]:
        [result] = [node for node in self._program.graph.nodes if node.op == "output"]
        targets = {spec.target: spec.arg.name for spec in self._program.graph_signature.input_specs}
        mutations, leaves = [], []
        for spec, value in zip(self._program.graph_signature.output_specs, result.args[0], strict=True):
            form = self._value(self._module, value, numbers)
            if spec.kind is OutputKind.USER_OUTPUT:
                leaves.append(form)
            elif spec.kind is OutputKind.BUFFER_MUTATION and isinstance(spec.arg, TensorArgument):
                weight = numbers[self._placeholders[targets[spec.target]]]
                mutations.append({"weight": weight, "value": form})
            else:
                raise GraphUnwritable(f"The forward pass has an effect of kind {spec.kind.name}.")
        return mutations, _structure(self._program.call_spec.out_spec, leaves)


def _operator_name(target: Any) -> str:
    if target is operator.getitem:
        return "getitem"
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target._name}"
    raise GraphUnwritable(f"The forward pass uses the operator {target}, which is not one of torch's own.")


def _argument(value: Any) -> Any:
    match value:
        case torch.dtype() if value in _DTYPES:
            return {"dtype": _DTYPES[value]}
        case torch.device():
            return {"device": value.type}
        case torch.layout() if value is torch.strided:
            return {"layout": "strided"}
        case torch.memory_format() if value in _MEMORY_FORMATS:
            return {"memory_format": _MEMORY_FORMATS[value]}
        case _:
            return _plain(value)["plain"]


def _plain(value: Any) -> dict[str, Any]:
    """A scalar, boxed to tell it from an input's name."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"plain": {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    raise GraphUnwritable(f"The forward pass uses a value of type {type(value).__name__}.")


def _constant(tensor: Any) -> dict[str, Any]:
    plain = tensor.detach().cpu().contiguous()
    if plain.numel() * plain.element_size() > MAX_CONSTANT_BYTES:
        raise GraphUnwritable("The forward pass makes a large constant that is not one of the module's weights.")
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return {"dtype": _DTYPES[plain.dtype], "shape": list(plain.shape), "data": base64.b64encode(data).decode()}


def _structure(spec: Any, leaves: list[Any]) -> Any:
    """The nested containers that export flattened, with the given leaves in their places."""
    if len(leaves) != spec.num_leaves:
        raise GraphUnwritable("The call's structure and its exported form disagree.")
    # Boxed, so that a leaf that is itself a dict or a list is not taken for structure.
    nested = torch.utils._pytree.tree_unflatten([_Leaf(leaf) for leaf in leaves], spec)
    return _nested(nested)


class _Leaf:
    def __init__(self, form: Any) -> None:
        self.form = form


def _nested(value: Any) -> Any:
    if isinstance(value, _Leaf):
        return value.form
    if type(value) in (tuple, list):
        return {type(value).__name__: [_nested(item) for item in value]}
    if type(value) in (dict, OrderedDict):
        return {"dict": [[key, _nested(item)] for key, item in value.items() if _is_key(key)]}
    raise GraphUnwritable(f"The call takes or gives a {type(value).__name__}; a graph has tuples, lists and dicts.")


def _is_key(key: object) -> bool:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return True
    raise GraphUnwritable("The call takes or gives a dict whose keys are neither strings nor integers.")
