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

Version 2 serves inputs of several sizes. A shape's entry may then be ``{"size": [least, most]}`` (most null: any), and
a node one of whole-number arithmetic (recorder.graph_sizes): ``size`` of a tensor and a dimension, ``int.add`` and its
like of two numbers, ``check`` of one, which refuses the call where it is zero. Their values may stand where an operator
takes a whole number. First come the checks that say which sizes the graph serves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Container, Iterator
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, InputSpec, OutputKind, TensorArgument

from recorder.graph_guards import GuardUnwritable, SizeChecks, form_of_size
from recorder.graph_sizes import CHECK
from recorder.graph_values import DTYPE_NAMES, GraphUnwritable, argument, constant, operator_name, plain, structure

__all__ = ["FORMAT_NAME", "FORMAT_VERSION", "OPEN_SIZES_VERSION", "GraphUnwritable", "graph_document"]

FORMAT_NAME = "vision-flight-recorder/graph"
FORMAT_VERSION = 1
#: Of a graph that leaves sizes of its inputs open.
OPEN_SIZES_VERSION = 2

#: What the reader takes (replay.graph.document).
_MODULE_PATH = re.compile(r"(?=.{1,256}$)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")

#: Checks that export inserts; they answer nothing. Those on sizes are kept where sizes are open.
_CHECKS = frozenset({"aten._assert_tensor_metadata.default", "aten._assert_async.msg"})


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
                    leaves.append(plain(spec.arg.value))
                    continue
                leaves.append(spec.arg.name)
                inputs.append(self._tensor_form(spec.arg.name))
                order.append((2, spec.arg.name))
            elif (name := self._weight_of(spec)) is not None:
                entry: dict[str, Any] = {"name": name, "requires_grad": self._requires_grad(spec)}
                weights.append(entry | ({"state": self._tensor_form(spec.arg.name)} if name in self._state else {}))
                order.append((0, spec.arg.name))
            else:
                constants.append(constant(self._program.constants[str(spec.target)]))
                order.append((1, spec.arg.name))
        for number, (_, name) in enumerate(sorted(order, key=lambda item: item[0])):
            numbers[self._placeholders[name]] = number
        leaf_values = [{"ref": numbers[self._placeholders[x]]} if isinstance(x, str) else x["plain"] for x in leaves]
        checks = self._size_checks(numbers)
        args, kwargs = structure(self._program.call_spec.in_spec, leaf_values)["tuple"]
        nodes = [*checks, *self._nodes(self._program.graph_module, numbers, len(numbers) + len(checks))]
        mutations, output = self._outputs(numbers)
        document = {
            "format": FORMAT_NAME,
            "version": OPEN_SIZES_VERSION if self._leaves_sizes_open else FORMAT_VERSION,
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

    @property
    def _leaves_sizes_open(self) -> bool:
        return any(not isinstance(size, int) for size in self._sizes_of_inputs())

    def _sizes_of_inputs(self) -> Iterator[Any]:
        for spec in self._program.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
                yield from self._placeholders[spec.arg.name].meta["val"].shape

    def _tensor_form(self, name: str) -> dict[str, Any]:
        value = self._placeholders[name].meta["val"]
        try:
            shape = [form_of_size(size, self._program.range_constraints) for size in value.shape]
        except GuardUnwritable as error:
            raise GraphUnwritable(str(error)) from error
        return {"dtype": DTYPE_NAMES[value.dtype], "shape": shape}

    def _size_checks(self, numbers: dict[torch.fx.Node, int]) -> list[dict[str, Any]]:
        """What the trace took for granted of sizes, as nodes that refuse others."""
        checks = SizeChecks(len(numbers))
        environment = None
        for spec in self._program.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
                placeholder = self._placeholders[spec.arg.name]
                checks.input(numbers[placeholder], placeholder.meta["val"].shape)
                environment = placeholder.meta["val"].fake_mode.shape_env or environment
        if not self._leaves_sizes_open or environment is None:
            return []
        try:
            for guard in environment.guards:
                checks.require(environment.simplify(guard.expr))
        except GuardUnwritable as error:
            raise GraphUnwritable(str(error)) from error
        return checks.nodes

    def _nodes(self, module: torch.nn.Module, numbers: dict[torch.fx.Node, int], first: int) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = []
        for node in module.graph.nodes:  # type: ignore[union-attr]
            if node.op in ("placeholder", "output", "get_attr"):
                continue
            name = operator_name(node.target)
            if name in _CHECKS or (name == CHECK and not isinstance(node.args[0], torch.fx.Node)):
                continue
            args = node.args[:1] if name == CHECK else node.args
            form: dict[str, Any] = {"op": name, "args": [self._value(module, arg, numbers) for arg in args]}
            if node.kwargs:
                form["kwargs"] = {key: self._value(module, arg, numbers) for key, arg in node.kwargs.items()}
            if path := self._module_path(node):
                form["module"] = path
            numbers[node] = first + len(nodes)
            nodes.append(form)
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
        return argument(value)

    def _subgraph(self, module: torch.nn.Module) -> dict[str, Any]:
        if not isinstance(module, torch.fx.GraphModule):
            raise GraphUnwritable("The graph uses an attribute that is not a part of it.")
        inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
        numbers = {node: number for number, node in enumerate(inputs)}
        nodes = self._nodes(module, numbers, len(inputs))
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
        return mutations, structure(self._program.call_spec.out_spec, leaves)
