"""Nodes of a stored graph that compute with sizes, and operators that are given what they computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from recorder.graph_sizes import CHECK, SIZE, SizesRefused, compute_integer
from replay.graph.arguments import MAX_DIMENSIONS, GraphRefused, Kind, Ref, check_extent, whole_number

__all__ = ["bounded", "integer_node"]


def integer_node(
    name: str, args: list[Any], kwargs: Any, kinds: list[Kind]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Check a node that reads, computes or checks sizes; return what to call and with what, values as Refs.

    Raises:
        GraphRefused: it is given something else than it takes.
    """
    match args:
        case [{"ref": number}, dimension] if name == SIZE and not kwargs:
            tensor, dimension = whole_number(number, len(kinds)), whole_number(dimension, MAX_DIMENSIONS)
            if tensor is not None and dimension is not None and kinds[tensor] is Kind.TENSOR:
                return _size, (Ref(tensor), dimension)
        case [condition] if name == CHECK and not kwargs:
            return _check, (_integer(condition, kinds),)
        case [left, right] if name not in (SIZE, CHECK) and not kwargs:
            return _Operation(name), (_integer(left, kinds), _integer(right, kinds))
    raise GraphRefused(f"{name} is given arguments of another form than it takes.")


def bounded(overload: Callable[..., Any], name: str, formals: list[str], given: Any) -> Callable[..., Any]:
    """Return an operator that looks at the numbers it gets, where one of them is made of sizes and not known yet.

    Args:
        overload: the operator.
        name: its name.
        formals: names of its arguments, in order.
        given: the arguments, already checked as far as they are known.
    """
    return _Bounded(overload, name, formals) if given else overload


class _Operation:
    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, left: int, right: int) -> int:
        try:
            return compute_integer(self._name, left, right)
        except SizesRefused as refused:
            raise GraphRefused(str(refused)) from refused


class _Bounded:
    def __init__(self, overload: Callable[..., Any], name: str, formals: list[str]) -> None:
        self._overload, self._name, self._formals = overload, name, formals

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for formal, value in (*zip(self._formals, args, strict=False), *kwargs.items()):
            check_extent(self._name, formal, value)
        return self._overload(*args, **kwargs)


def _integer(value: Any, kinds: list[Kind]) -> Any:
    match value:
        case {"ref": number} if (whole := whole_number(number, len(kinds))) is not None:
            if kinds[whole] is Kind.INTEGER:
                return Ref(whole)
        case int() if type(value) is int and abs(value) < 2**62:
            return value
    raise GraphRefused("The graph computes with something that is not a size.")


def _size(tensor: Any, dimension: int) -> int:
    if not isinstance(tensor, torch.Tensor) or dimension >= tensor.dim():
        raise GraphRefused("The graph takes a size of a dimension that is none.")
    return int(tensor.shape[dimension])


def _check(condition: int) -> int:
    if not condition:
        raise GraphRefused("This graph does not serve inputs of these sizes.")
    return 1
