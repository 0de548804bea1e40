"""Sizes that a graph leaves open: whole-number arithmetic on them, and which calls they let one graph serve.

A graph of version 2 (recorder.graph_format) may compute with the sizes of tensors. What it may do with them is the
closed list below, on numbers that are bounded; nothing is parsed and nothing evaluated. Needs no torch.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "CHECK",
    "INTEGER_OPERATORS",
    "MAX_INTEGER",
    "SIZE",
    "OpenSizes",
    "SizesRefused",
    "compute_integer",
    "is_integer_operator",
    "with_fixed_sizes",
]

#: Reads one size of a tensor: ``[tensor, dimension]``.
SIZE = "size"
#: Refuses the call where its argument is zero.
CHECK = "check"
#: No number that sizes are made of is larger: products of the sizes of one tensor stay far below.
MAX_INTEGER = 2**62
#: A tensor has no more dimensions, and a call no more tensors, than this.
_MAX_DIMENSIONS = 64
_MAX_DEPTH = 16
#: Nodes that conditions on sizes take; MobileNetV2 has some three hundred.
_MAX_CHECKS = 20_000
#: Beginning and end of a slice of everything: a trace keeps it where it does not know the size.
_EVERYTHING = [0, 2**63 - 1]
#: A graph larger than this is not looked into for its sizes; those of the largest networks have some megabytes.
_MAX_LOOKED_AT_BYTES = 16 * 2**20


class SizesRefused(ValueError):
    """Arithmetic on sizes that has no answer, or one that no size has; the message is one sentence."""


def _floor_divided(dividend: int, divisor: int) -> int:
    if divisor == 0:
        raise SizesRefused("The graph divides a size by zero.")
    return dividend // divisor


def _remainder(dividend: int, divisor: int) -> int:
    if divisor == 0:
        raise SizesRefused("The graph divides a size by zero.")
    return dividend % divisor


#: What may be done with sizes, by name, all of two numbers; comparisons give 1 or 0.
INTEGER_OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "int.add": lambda a, b: a + b,
    "int.sub": lambda a, b: a - b,
    "int.mul": lambda a, b: a * b,
    "int.floordiv": _floor_divided,
    "int.mod": _remainder,
    "int.max": max,
    "int.min": min,
    "int.eq": lambda a, b: int(a == b),
    "int.ne": lambda a, b: int(a != b),
    "int.ge": lambda a, b: int(a >= b),
    "int.gt": lambda a, b: int(a > b),
    "int.le": lambda a, b: int(a <= b),
    "int.lt": lambda a, b: int(a < b),
}


def is_integer_operator(name: object) -> bool:
    """Whether a node of that name reads, computes or checks sizes."""
    return isinstance(name, str) and (name in (SIZE, CHECK) or name in INTEGER_OPERATORS)


def compute_integer(name: str, left: int, right: int) -> int:
    """Return what an integer operator gives.

    Raises:
        SizesRefused: a division by zero, or a number beyond MAX_INTEGER.
    """
    result = INTEGER_OPERATORS[name](left, right)
    if not -MAX_INTEGER <= result <= MAX_INTEGER:
        raise SizesRefused("The graph computes a size that no tensor has.")
    return result


class OpenSizes:
    """The sizes that one graph leaves open, and the checks it begins with."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Take a parsed document of version 2, of which nothing is believed.

        Raises:
            KeyError, TypeError: it is none.
        """
        self._args, self._kwargs, self._inputs = document["args"], document["kwargs"], list(document["inputs"])
        self._first_input = len(document["weights"]) + len(document["constants"])
        leading = itertools.takewhile(lambda node: is_integer_operator(node["op"]), document["nodes"])
        self._checks = [(node["op"], list(node["args"])) for node in itertools.islice(leading, _MAX_CHECKS)]

    @classmethod
    def of(cls, graph: bytes) -> OpenSizes | None:
        """Return those of a graph document; None where its sizes are fixed, or it is none."""
        if len(graph) > _MAX_LOOKED_AT_BYTES:
            return None
        try:
            document = json.loads(graph)
            return cls(document) if document["version"] == 2 else None
        except (ValueError, RecursionError, KeyError, TypeError):
            return None

    def serve(self, args: dict[str, Any], kwargs: dict[str, Any]) -> bool:
        """Say whether the graph serves a call, given its arguments in tagged JSON form (recorder.bundle.values)."""
        try:
            return self._serve(args, kwargs)
        except (SizesRefused, KeyError, IndexError, TypeError, ValueError):
            return False

    def _serve(self, args: dict[str, Any], kwargs: dict[str, Any]) -> bool:
        shapes: dict[int, Sequence[int]] = {}
        if not (_lay(self._args, args, shapes, 0) and _lay(self._kwargs, kwargs, shapes, 0)):
            return False
        first = self._first_input
        if sorted(shapes) != list(range(first, first + len(self._inputs))):
            return False
        if not all(_fits(entry["shape"], shapes[number]) for number, entry in enumerate(self._inputs, first)):
            return False
        values: dict[int, int] = {}
        for number, (name, operands) in enumerate(self._checks, first + len(self._inputs)):
            if name == SIZE:
                tensor, dimension = operands
                if tensor["ref"] not in shapes:
                    return True  # of what the graph computes: no condition on the inputs any more
                values[number] = int(shapes[tensor["ref"]][_index(dimension)])
            elif name == CHECK:
                [condition] = operands
                if not _number(condition, values):
                    return False
            else:
                left, right = operands
                values[number] = compute_integer(name, _number(left, values), _number(right, values))
        return True


def with_fixed_sizes(document: dict[str, Any], shapes: Sequence[Sequence[int]]) -> dict[str, Any] | None:
    """Return what a graph comes down to for inputs of these shapes, in a form that can be compared.

    What it computes with sizes is done here, and slices of everything are left out, so that a graph that leaves sizes
    open and one that was exported for these shapes are equal where they compute the same. None where that cannot be
    done: a size of what the graph itself computes is used.
    """
    first = len(document["weights"]) + len(document["constants"])
    known: dict[int, Any] = {number: {"ref": number} for number in range(first + len(shapes))}
    try:
        nodes = _fixed_nodes(document["nodes"], known, first + len(shapes), dict(enumerate(shapes, first)))
        mutations = [{**each, "value": _replaced(each["value"], known)} for each in document["mutations"]]
        inputs = [{**entry, "shape": list(shape)} for entry, shape in zip(document["inputs"], shapes, strict=True)]
        output = _replaced(document["output"], known)
    except (SizesRefused, KeyError, IndexError, TypeError, ValueError):
        return None
    return {**document, "version": 1, "inputs": inputs, "nodes": nodes, "mutations": mutations, "output": output}


def _fixed_nodes(
    nodes: list[dict[str, Any]], known: dict[int, Any], base: int, shapes: Mapping[int, Sequence[int]]
) -> list[dict[str, Any]]:
    """Nodes without arithmetic on sizes; ``known`` gets, by the old number, a reference or a whole number."""
    kept: list[dict[str, Any]] = []
    fresh = sum(isinstance(value, dict) for value in known.values())
    for number, node in enumerate(nodes, base):
        name, args = node["op"], node["args"]
        if name == SIZE:
            known[number] = int(shapes[args[0]["ref"]][_index(args[1])])
        elif name == CHECK:
            if not _whole(_replaced(args[0], known)):
                raise SizesRefused("The graph does not serve inputs of these sizes.")
            known[number] = 0
        elif name in INTEGER_OPERATORS:
            left, right = (_whole(_replaced(arg, known)) for arg in args)
            known[number] = compute_integer(name, left, right)
        elif name == "aten.slice.Tensor" and args[2:] == _EVERYTHING and not node.get("kwargs"):
            known[number] = _replaced(args[0], known)
        else:
            form = {**node, "args": _fixed_arguments(args, known)}
            if "kwargs" in node:
                form["kwargs"] = {key: _replaced(value, known) for key, value in node["kwargs"].items()}
            kept.append(form)
            known[number] = {"ref": fresh}
            fresh += 1
    return kept


def _fixed_arguments(args: list[Any], known: dict[int, Any]) -> list[Any]:
    """Arguments of one node; a region's operands that are sizes go, and stand in its body as numbers."""
    place = next((index for index, arg in enumerate(args) if isinstance(arg, dict) and "graph" in arg), None)
    if place is None:
        return [_replaced(arg, known) for arg in args]
    graph = args[place]["graph"]
    operands = [_replaced(arg, known) for arg in args[place + 1 :]]
    left = [operand for operand in operands if isinstance(operand, dict)]
    positions = iter(range(len(left)))
    inside: dict[int, Any] = {
        number: {"ref": next(positions)} if isinstance(operand, dict) else operand
        for number, operand in enumerate(operands)
    }
    nodes = _fixed_nodes(graph["nodes"], inside, len(operands), {})
    body = {"inputs": len(left), "nodes": nodes, "output": _replaced(graph["output"], inside)}
    return [*args[:place], {"graph": body}, *left]


def _replaced(value: Any, known: Mapping[int, Any]) -> Any:
    if isinstance(value, list):
        return [_replaced(item, known) for item in value]
    if isinstance(value, dict):
        return known[value["ref"]] if "ref" in value else {key: _replaced(item, known) for key, item in value.items()}
    return value


def _lay(pattern: Any, tagged: Any, shapes: dict[int, Sequence[int]], depth: int) -> bool:
    """Lay a call's arguments over the structure that the graph takes; note the shape of each input."""
    if depth > _MAX_DEPTH or not isinstance(tagged, dict):
        return False
    match pattern:
        case {"ref": int() as number}:
            shape = tagged.get("tensor", {}).get("shape")
            if shape is None or number in shapes:
                return False
            shapes[number] = shape
            return True
        case {"tuple": list() as parts} | {"list": list() as parts}:
            items = tagged.get(next(iter(pattern)))
            return (
                isinstance(items, list)
                and len(items) == len(parts)
                and all(_lay(part, item, shapes, depth + 1) for part, item in zip(parts, items, strict=True))
            )
        case {"dict": list() as pairs}:
            found = dict(tagged.get("dict", ()))
            return found.keys() == {key for key, _ in pairs} and all(
                _lay(part, found[key], shapes, depth + 1) for key, part in pairs
            )
        case {"float": _}:
            return bool(tagged == pattern)
        case _:
            return (
                tagged.keys() == {"scalar"} and type(tagged["scalar"]) is type(pattern) and tagged["scalar"] == pattern
            )


def _fits(pattern: Sequence[Any], shape: Sequence[int]) -> bool:
    return len(pattern) == len(shape) <= _MAX_DIMENSIONS and all(map(size_fits, pattern, shape))


def size_fits(pattern: Any, size: int) -> bool:
    """Whether a size is the one that a graph's input has, or between those that it may have."""
    match pattern:
        case {"size": [int() as least, int() | None as most]}:
            return least <= size and (most is None or size <= most)
        case _:
            return type(pattern) is int and pattern == size


def _number(value: Any, values: Mapping[int, int]) -> int:
    return values[value["ref"]] if isinstance(value, dict) else _whole(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise SizesRefused("The graph computes with something that is not a size.")
    return value


def _index(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_DIMENSIONS:
        raise SizesRefused("The graph takes a size of a dimension that is none.")
    return value
