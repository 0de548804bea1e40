"""The layers of a call that was located, as the rows of a tree: from a saved result, so by nothing but its schema."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from replay.show.text import inert

__all__ = ["Row", "Rows", "count", "tree"]

#: Levels of a path; what is deeper stands in one line. Real networks have six.
_LEVELS = 12

#: Levels that are open besides the way to the root.
_OPEN_LEVELS = 2

#: A bar has its full length at a relative error of 1 and none at this: below is what float32 rounds anyway.
_FLOOR = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the tree."""

    name: str
    kind: str
    error: str  #: of its output: "same", a relative error, "other" or "bits"
    alone: str  #: error of its output when run alone on the reference's inputs; empty where it was not
    bar: float  #: length, 0 to 1, logarithmic
    is_root: bool = False  #: here the sides part
    is_same: bool = False
    is_open: bool = True
    children: tuple[Row, ...] = ()


Rows = tuple[Row, ...]


@dataclass(slots=True)
class _Node:
    """A part of a module path: calls of that module and operators in it, and what is below."""

    name: str
    layers: list[Mapping[str, Any]] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)

    def below(self) -> Iterator[Mapping[str, Any]]:
        """Every layer here and further down; this one's own last, as its output comes last."""
        for child in self.children.values():
            yield from child.below()
        yield from self.layers


def tree(call: Mapping[str, Any]) -> Rows:
    """Return the rows of one call, those of the model itself at the top; siblings that give the same share a row.

    Args:
        call: ``located_call`` of replay.schema.json, validated and otherwise anybody's.
    """
    top = _Node("the model")
    for layer in call["layers"]:
        node = top
        for part in layer["path"].split(".", _LEVELS - 1) if layer["path"] else ():
            node = node.children.setdefault(part, _Node(part))
        node.layers.append(layer)
    return _Tree(call).rows(top, 0) if call["layers"] else ()


def count(rows: Rows) -> int:
    """Return how many rows there are, those below others too."""
    return sum(1 + count(row.children) for row in rows)


class _Tree:
    def __init__(self, call: Mapping[str, Any]) -> None:
        root = call["first_difference"]
        self._root = (root["path"], root["call_index"]) if root else None
        self._operator: str | None = root["operator"] if root else None
        self._inside = [layer for layer in call["operators"] if layer["operator"]]

    def rows(self, node: _Node, depth: int) -> Rows:
        modules = [layer for layer in node.layers if not layer["operator"]]
        operators = [layer for layer in node.layers if layer["operator"]]
        if not modules and len(operators) == 1 and not node.children:
            return (self._row(operators[0], node.name, _short(operators[0]["operator"])),)
        below = self._operators(operators) + self._children(node, depth)
        is_open = depth < _OPEN_LEVELS or any(self._is_root(layer) for layer in node.below())
        if not modules:
            same = all(layer["outputs_match"] for layer in node.below())
            row = Row(name=inert(node.name, 80), kind="", error="", alone="", bar=0.0, is_same=same)
            return (replace(row, children=below, is_open=is_open),)
        *earlier, last = modules
        first = [self._module(layer, node.name, ()) for layer in earlier]
        return (*first, self._module(last, node.name, below, is_open))

    def _module(self, layer: Mapping[str, Any], name: str, below: Rows, is_open: bool = True) -> Row:
        is_root = self._is_root(layer)
        inside = self._operators(self._inside) if is_root else ()
        row = self._row(layer, (layer["path"] if is_root else "") or name, inert(layer["kind"], 60))
        return replace(row, children=inside + below, is_open=is_open or is_root)

    def _children(self, node: _Node, depth: int) -> Rows:
        rows: list[Row] = []
        same: list[_Node] = []
        for child in node.children.values():
            if all(layer["outputs_match"] for layer in child.below()):
                same.append(child)
                continue
            rows += _together(same)
            same = []
            rows += self.rows(child, depth + 1)
        return (*rows, *_together(same))

    def _operators(self, layers: Sequence[Mapping[str, Any]]) -> Rows:
        return tuple(self._row(layer, _short(layer["operator"]), "operator") for layer in layers)

    def _row(self, layer: Mapping[str, Any], name: str, kind: str) -> Row:
        index = layer["call_index"]
        alone = layer["alone"]["rel_l2"] if layer["alone"] else None
        same = layer["outputs_match"]
        return Row(
            name=inert(name, 80) + (f" (call {index + 1})" if index else ""),
            kind=inert(kind, 60),
            error="same" if same else _error(layer["rel_l2"]),
            alone="" if alone is None else _magnitude(alone),
            bar=0.0 if same else _bar(layer["rel_l2"]),
            is_root=self._is_root(layer),
            is_same=same,
        )

    def _is_root(self, layer: Mapping[str, Any]) -> bool:
        if layer["operator"]:
            return not layer["outputs_match"] and layer["operator"] == self._operator and self._at_root(layer["path"])
        return (layer["path"], layer["call_index"]) == self._root

    def _at_root(self, path: str) -> bool:
        return self._root is not None and path == self._root[0]


def _together(nodes: Sequence[_Node]) -> list[Row]:
    """One row for neighbours that give the same."""
    if not nodes:
        return []
    name = inert(nodes[0].name, 60) + (f" … {inert(nodes[-1].name, 60)}" if len(nodes) > 1 else "")
    layers = sum(1 for node in nodes for _ in node.below())
    kind = f"{layers} layers" if layers > 1 else ""
    return [Row(name=name, kind=kind, error="same", alone="", bar=0.0, is_same=True)]


def _short(operator: str) -> str:
    return operator.removeprefix("aten.").removesuffix(".default")


def _error(rel_l2: float | None) -> str:
    if rel_l2 is None:
        return "other"  # of another shape or dtype, or of numbers that have no norm
    return _magnitude(rel_l2) if rel_l2 else "bits"  # the sign of a zero, the payload of a NaN


def _magnitude(rel_l2: float) -> str:
    return "0" if rel_l2 == 0 else f"{rel_l2:.1e}"


def _bar(rel_l2: float | None) -> float:
    if not rel_l2 or rel_l2 <= _FLOOR:
        return 0.0
    return max(0.04, min(1.0, 1 - math.log10(rel_l2) / math.log10(_FLOOR)))
