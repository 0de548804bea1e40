"""A located difference as a tree of layers: text of 80 columns, names made inert."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from replay.locate.alignment import LayerGap
from replay.locate.locating import Alone, Located
from replay.locate.wording import magnitude
from replay.show.text import fit

__all__ = ["tree_lines"]

_NAME_COLUMNS, _KIND_COLUMNS, _BAR_COLUMNS = 30, 18, 12
#: A bar has its full length at a relative error of 1 and none at this: below is what float32 rounds anyway.
_FLOOR = 1e-9
#: Lines of a tree; what is beyond stands in the JSON form.
_MAX_LINES = 200


@dataclass(slots=True)
class _Node:
    """A part of a module path: calls of that module, operators in it, and what is below."""

    name: str
    layers: list[LayerGap] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)

    def below(self) -> Iterator[LayerGap]:
        """Every layer here and further down."""
        yield from self.layers
        for child in self.children.values():
            yield from child.below()


def tree_lines(located: Located, *, blocks: bool = True, everything: bool = False) -> list[str]:
    """Draw the layers of one call.

    Args:
        located: what was found.
        blocks: whether the terminal has block characters.
        everything: also open the parts in which nothing differs.

    Returns:
        Lines of at most 80 columns: ``>`` marks the root; the error of each layer's output, estimated from sketches; its
        error when it is run alone on the reference's inputs, exact; a bar, logarithmic from 1e-9 to 1.
    """
    if located.parting is None:
        return []
    top = _Node("")
    for layer in located.parting.layers:
        node = top
        for part in layer.key[0].split(".") if layer.key[0] else ():
            node = node.children.setdefault(part, _Node(part))
        node.layers.append(layer)
    head = "  " + fit("layer", _NAME_COLUMNS) + " " + fit("", _KIND_COLUMNS) + f" {'error':>8} {'alone':>8}"
    lines = [head.rstrip(), *_drawn(top, located, 0, blocks, everything)]
    if len(lines) > _MAX_LINES:
        lines = [*lines[:_MAX_LINES], f"  … and {len(lines) - _MAX_LINES} more lines; --json lists every layer"]
    return [line.rstrip() for line in lines]


def _drawn(node: _Node, located: Located, depth: int, blocks: bool, everything: bool) -> Iterator[str]:
    name = node.name or "the model"
    modules = [layer for layer in node.layers if not layer.key[1]]
    operators = [layer for layer in node.layers if layer.key[1]]
    if not modules:
        yield _line(name, "", None, None, depth, located, blocks)
    for layer in modules:
        again = f" (call {layer.key[2] + 1})" if layer.key[2] else ""
        yield _line(name + again, layer.kind, layer, located.alone.get(layer.key), depth, located, blocks)
        if located.operators is not None and layer.key == located.parting.root:  # type: ignore[union-attr]
            for operator in located.operators.layers:
                if operator.key[1]:
                    yield _line(operator.key[1], "", operator, None, depth + 1, located, blocks)
    for layer in operators:
        yield _line(layer.key[1], "", layer, located.alone.get(layer.key), depth + 1, located, blocks)
    same: list[_Node] = []
    for child in node.children.values():
        if not everything and all(layer.outputs_match for layer in child.below()):
            same.append(child)
            continue
        yield from _collapsed(same, depth + 1)
        same = []
        yield from _drawn(child, located, depth + 1, blocks, everything)
    yield from _collapsed(same, depth + 1)


def _collapsed(nodes: list[_Node], depth: int) -> Iterator[str]:
    if nodes:
        names = nodes[0].name if len(nodes) == 1 else f"{nodes[0].name} … {nodes[-1].name}"
        yield "  " + fit("  " * min(depth, 8) + names, _NAME_COLUMNS) + " " + fit("", _KIND_COLUMNS) + f" {'same':>8}"


def _line(
    name: str, kind: str, layer: LayerGap | None, alone: Alone | None, depth: int, located: Located, blocks: bool
) -> str:
    indent = "  " * min(depth, 8)
    text = fit(name, _NAME_COLUMNS - len(indent))
    if layer is None:
        return f"  {indent}{text}"
    parting = located.parting
    operators = located.operators
    roots = {parting.root if parting else None, operators.root if operators else None}
    mark = "> " if layer.key in roots else "  "
    error = "same" if layer.outputs_match else magnitude(layer.rel_l2) if layer.rel_l2 else "bits"
    if not layer.outputs_match and layer.rel_l2 is None:
        error = "other"
    own = "" if alone is None else magnitude(alone.rel_l2)
    bar = "" if layer.outputs_match else _bar(layer.rel_l2, blocks)
    return f"{mark}{indent}{text} {fit(kind, _KIND_COLUMNS)} {error:>8} {own:>8} {bar}"


def _bar(rel_l2: float | None, blocks: bool) -> str:
    if not rel_l2 or rel_l2 <= _FLOOR:
        return ""
    share = min(1.0, 1 - math.log10(rel_l2) / math.log10(_FLOOR))
    return ("█" if blocks else "#") * max(1, round(share * _BAR_COLUMNS))
