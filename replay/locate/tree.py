"""A located difference as a tree of layers: text of 80 columns, names made inert."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from replay.locate.alignment import LayerGap
from replay.locate.locating import Alone, Located
from replay.locate.wording import magnitude
from replay.show.text import fit

__all__ = ["tree_lines"]

_NAME_COLUMNS, _KIND_COLUMNS, _BAR_COLUMNS = 28, 18, 12
#: A bar has its full length at a relative error of 1 and none at this: below is what float32 rounds anyway.
_FLOOR = 1e-9
#: Levels of the tree that are open besides the way to the root.
_OPEN_LEVELS = 2
_MAX_INDENT = 8
#: Lines of a tree; what is beyond stands in the JSON form.
_MAX_LINES = 200


@dataclass(slots=True)
class _Node:
    """A part of a module path: calls of that module, operators in it, and what is below."""

    name: str
    layers: list[LayerGap] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)

    def below(self) -> Iterator[LayerGap]:
        """Every layer here and further down; this one's own last, as its output comes last."""
        for child in self.children.values():
            yield from child.below()
        yield from self.layers


def tree_lines(located: Located, *, blocks: bool = True, everything: bool = False) -> list[str]:
    """Draw the layers of one call.

    Args:
        located: what was found.
        blocks: whether the terminal has block characters.
        everything: open every part; else only what leads to the root, and the first two levels.

    Returns:
        Lines of at most 80 columns: ``>`` marks the root; each layer's error, estimated from sketches; its error when
        run alone on the reference's inputs, exact (in a closed part the largest); a bar, logarithmic from 1e-9 to 1.
    """
    if located.parting is None:
        return []
    top = _Node("")
    for layer in located.parting.layers:
        node = top
        for part in layer.key[0].split(".") if layer.key[0] else ():
            node = node.children.setdefault(part, _Node(part))
        node.layers.append(layer)
    head = f"  {fit('layer', _NAME_COLUMNS)} {fit('', _KIND_COLUMNS)} {'error':>8} {'alone':>8}"
    lines = [head, *_Drawing(located, blocks, everything).lines(top, 0)]
    if len(lines) > _MAX_LINES:
        lines = [*lines[:_MAX_LINES], f"  … and {len(lines) - _MAX_LINES} more lines; --json lists every layer"]
    return [line.rstrip() for line in lines]


class _Drawing:
    """One tree being drawn."""

    def __init__(self, located: Located, blocks: bool, everything: bool) -> None:
        self._located = located
        self._blocks = blocks
        self._everything = everything
        self._root = located.parting.root if located.parting else None
        self._inside = located.operators.layers if located.operators else ()
        self._marked = {self._root, located.operators.root if located.operators else None} - {None}

    def lines(self, node: _Node, depth: int) -> Iterator[str]:
        """Draw a node and what is below it."""
        modules = [layer for layer in node.layers if not layer.key[1]]
        operators = [layer for layer in node.layers if layer.key[1]]
        name = node.name or "the model"
        if not self._opens(node, depth):
            yield self._closed(node, name, depth)
            return
        if not modules and len(operators) == 1 and not node.children:
            yield self._line(name, _short(operators[0].key[1]), operators[0], depth)
            return
        if not modules:
            yield "  " + _indented(name, depth)
        for layer in modules:
            yield self._line(_again(name, layer), layer.kind, layer, depth)
            if layer.key == self._root:
                yield from self._operators(self._inside, depth + 1)
        yield from self._operators(operators, depth + 1)
        same: list[str] = []
        for child in node.children.values():
            if not self._everything and all(layer.outputs_match for layer in child.below()):
                same.append(child.name)
                continue
            yield from _same(same, depth + 1)
            same.clear()
            yield from self.lines(child, depth + 1)
        yield from _same(same, depth + 1)

    def _opens(self, node: _Node, depth: int) -> bool:
        if self._everything or depth < _OPEN_LEVELS or not node.children:
            return True
        return any(layer.key == self._root for layer in node.below())

    def _operators(self, layers: Sequence[LayerGap], depth: int) -> Iterator[str]:
        for layer in layers:
            if layer.key[1]:
                yield self._line(_again(_short(layer.key[1]), layer), "operator", layer, depth)

    def _closed(self, node: _Node, name: str, depth: int) -> str:
        layers = list(node.below())
        errors = [alone.rel_l2 for layer in layers if (alone := self._located.alone.get(layer.key)) is not None]
        largest = Alone(rel_l2=max((error for error in errors if error is not None), default=None), max_abs=None)
        kind = layers[-1].kind if not layers[-1].key[1] else ""
        return self._line(f"{name} …", kind, layers[-1], depth, largest)

    def _line(self, name: str, kind: str, layer: LayerGap, depth: int, alone: Alone | None = None) -> str:
        alone = alone or self._located.alone.get(layer.key)
        mark = "> " if layer.key in self._marked else "  "
        own = "" if alone is None or alone.rel_l2 is None else magnitude(alone.rel_l2)
        bar = "" if layer.outputs_match else _bar(layer.rel_l2, self._blocks)
        return f"{mark}{_indented(name, depth)} {fit(kind, _KIND_COLUMNS)} {_error(layer):>8} {own:>8} {bar}"


def _error(layer: LayerGap) -> str:
    if layer.outputs_match:
        return "same"
    if layer.rel_l2 is None:
        return "other"  # of another shape or dtype, or of numbers that have no norm
    return magnitude(layer.rel_l2) if layer.rel_l2 else "bits"  # the sign of a zero, the payload of a NaN


def _short(operator: str) -> str:
    return operator.removeprefix("aten.").removesuffix(".default")


def _again(name: str, layer: LayerGap) -> str:
    return f"{name} (call {layer.key[2] + 1})" if layer.key[2] else name


def _same(names: list[str], depth: int) -> Iterator[str]:
    if names:
        shown = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        yield f"  {_indented(shown, depth)} {fit('', _KIND_COLUMNS)} {'same':>8}"


def _indented(name: str, depth: int) -> str:
    indent = "  " * min(depth, _MAX_INDENT)
    return indent + fit(name, _NAME_COLUMNS - len(indent))


def _bar(rel_l2: float | None, blocks: bool) -> str:
    if not rel_l2 or rel_l2 <= _FLOOR:
        return ""
    share = min(1.0, 1 - math.log10(rel_l2) / math.log10(_FLOOR))
    return ("█" if blocks else "#") * max(1, round(share * _BAR_COLUMNS))
