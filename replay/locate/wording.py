"""Sentences about where two runs part."""

from __future__ import annotations

from dataclasses import replace

from replay.locate.alignment import LayerGap, describe_key
from replay.locate.locating import Located
from replay.show.text import inert
from replay.verdict import Difference, Layer

__all__ = ["describe_root", "magnitude", "name_layer", "weights_sentence"]

_WEIGHTS_NAMED = 3


def describe_root(located: Located) -> str:
    """Say in one sentence, without a full stop, where two runs of a call part; made inert."""
    parting, root = located.parting, located.root
    if parting is None:
        return inert(located.reason, 400) or "nothing could be compared"
    if root is None and parting.before is not None:
        return f"the inputs differ already, at {_name(parting.before, '')}"
    if root is None and parting.structure is not None:
        return inert(parting.structure, 600)
    if root is None:
        return "every layer gives the same"
    said = f"{_name(root.key, root.kind)} is the first to differ"
    if located.operator is not None and located.operator != root.key:
        said += f", in its operator {inert(located.operator[1], 100)}"
    if parting.before is not None:
        said += f", in what it computes itself before {_name(parting.before, '')}"
    else:
        said += "; the layers before it give the same" if parting.outputs_only else "; its inputs are the same"
    if root.rel_l2:
        said += f", its output is off by {magnitude(root.rel_l2)}"
    if sentence := weights_sentence(root):
        said += f"; {sentence}"
    if located.disturbed:
        said += "; watched by operators it computes other bits, so the operator is a guess"
    if parting.structure is not None:
        said += f"; {inert(parting.structure, 400)}"
    return said


def name_layer(located: Located, difference: Difference) -> Difference:
    """Return a difference with the layer in which it begins."""
    root = located.root
    if root is None:
        return replace(difference, what=f"{difference.what}; {_not_found(located)}")
    operator = located.operator
    layer = Layer(
        path=inert(root.key[0], 400),
        kind=inert(root.kind, 200),
        call_index=root.key[2],
        operator=inert(operator[1], 200) if operator else None,
    )
    return replace(difference, what=f"{difference.what}; {describe_root(located)}", layer=layer)


def _not_found(located: Located) -> str:
    if located.parting is None:
        return f"its layers could not be watched: {inert(located.reason, 300)}"
    if not located.differs and not located.parting.outputs_only:
        return "it did not show again while the layers were watched"
    return describe_root(located)


def weights_sentence(layer: LayerGap) -> str:
    """Say which of a layer's own weights differ; empty where none does."""
    if not layer.weights:
        return ""
    named = [
        f"{inert(name, 100)}{f' by {magnitude(rel_l2)}' if rel_l2 else ''}"
        for name, rel_l2 in layer.weights[:_WEIGHTS_NAMED]
    ]
    more = len(layer.weights) - len(named)
    return f"its weights differ: {', '.join(named)}{f' and {more} more' if more else ''}"


def magnitude(rel_l2: float | None) -> str:
    """Write a relative L2 error: "2.3e-07"; "-" where there is none to write."""
    return "-" if rel_l2 is None else "0" if rel_l2 == 0 else f"{rel_l2:.1e}"


def _name(key: tuple[str, str, int], kind: str) -> str:
    return inert(describe_key(key, kind), 200)
