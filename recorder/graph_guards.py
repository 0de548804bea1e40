"""What a trace took for granted of its inputs' sizes, written as checks with which the exported graph begins.

Where a model's code, or torch's own, compares sizes (`if height % 4: pad`), a trace follows one branch and notes under
which condition. The conditions are symbolic expressions of torch's; here they become integer operators of the graph
document (recorder.graph_sizes), so that a reader refuses inputs for which the graph would be another branch's.
"""

from __future__ import annotations

from typing import Any

import sympy
import torch

from recorder.graph_sizes import CHECK, SIZE

__all__ = ["GuardUnwritable", "SizeChecks", "form_of_size"]

#: What a size may be at most where nothing bounds it; torch's own bound means "any".
_ANY = 2**48

_COMPARISONS: dict[Any, str] = {
    sympy.Eq: "int.eq",
    sympy.Ne: "int.ne",
    sympy.Ge: "int.ge",
    sympy.Gt: "int.gt",
    sympy.Le: "int.le",
    sympy.Lt: "int.lt",
}
#: By the name of torch's own symbolic functions; remainders of sizes, which are not negative, all agree.
_FUNCTIONS = {
    "FloorDiv": "int.floordiv",
    "CleanDiv": "int.floordiv",
    "Mod": "int.mod",
    "PythonMod": "int.mod",
    "Max": "int.max",
    "Min": "int.min",
}
#: Powers of sizes are squares and cubes.
_MAX_POWER = 4


class GuardUnwritable(Exception):
    """A condition on sizes that the graph document has no form for."""


def form_of_size(size: Any, ranges: dict[Any, Any]) -> Any:
    """The form of one size of an input: a whole number, or between which it may be.

    Raises:
        GuardUnwritable: it is an expression of other sizes, which has no form.
    """
    if isinstance(size, int):
        return size
    symbol = size.node.expr
    if symbol.is_Integer:
        return int(symbol)
    if not symbol.is_Symbol:
        raise GuardUnwritable(f"A size of an input is {symbol}, which has no form.")
    known = ranges.get(symbol)
    least = int(known.lower) if known is not None and known.lower.is_Integer else 0
    most = int(known.upper) if known is not None and known.upper.is_Integer and known.upper < _ANY else None
    return {"size": [least, most]}


class SizeChecks:
    """Writes the conditions of one trace as nodes, each value once.

    Args:
        next_number: gives the number of the next node's value.
    """

    def __init__(self, next_number: int) -> None:
        self.nodes: list[dict[str, Any]] = []
        self._next = next_number
        self._symbols: dict[Any, Any] = {}
        self._values: dict[Any, Any] = {}

    def input(self, number: int, shape: torch.Size) -> None:
        """Take note of an input's sizes; sizes of the same symbol are checked to be the same."""
        for dimension, size in enumerate(shape):
            if isinstance(size, int) or size.node.expr.is_Integer:
                continue
            value = self._node(SIZE, {"ref": number}, dimension)
            symbol = size.node.expr
            if symbol in self._symbols:
                self._node(CHECK, self._node("int.eq", self._symbols[symbol], value))
            else:
                self._symbols[symbol] = value

    def require(self, condition: Any) -> None:
        """Add one condition.

        Raises:
            GuardUnwritable: it has a part without a form.
        """
        if condition in (sympy.true, True):
            return
        if isinstance(condition, sympy.And):
            for part in condition.args:
                self.require(part)
            return
        self._node(CHECK, self._value(condition))

    def _value(self, expression: Any) -> Any:
        if expression.is_Integer:
            return int(expression)
        if expression.is_Symbol:
            if expression not in self._symbols:
                raise GuardUnwritable(f"A condition on sizes uses {expression}, which is no input's size.")
            return self._symbols[expression]
        if expression not in self._values:
            self._values[expression] = self._operation(expression)
        return self._values[expression]

    def _operation(self, expression: Any) -> Any:
        if (comparison := _COMPARISONS.get(type(expression))) is not None:
            return self._node(comparison, *map(self._value, expression.args))
        if expression.is_Add:
            return self._folded("int.add", expression.args)
        if expression.is_Mul:
            return self._folded("int.mul", expression.args)
        if expression.is_Pow and expression.exp.is_Integer and 0 < expression.exp <= _MAX_POWER:
            return self._folded("int.mul", [expression.base] * int(expression.exp))
        if (name := _FUNCTIONS.get(type(expression).__name__)) is not None:
            return self._folded(name, expression.args)
        raise GuardUnwritable(f"A condition on sizes has the form {type(expression).__name__}.")

    def _folded(self, name: str, parts: Any) -> Any:
        first, *rest = sorted(parts, key=str) if name in ("int.add", "int.mul", "int.max", "int.min") else parts
        value = self._value(first)
        for part in rest:
            value = self._node(name, value, self._value(part))
        return value

    def _node(self, name: str, *args: Any) -> dict[str, Any]:
        self.nodes.append({"op": name, "args": list(args)})
        self._next += 1
        return {"ref": self._next - 1}
