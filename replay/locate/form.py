"""The JSON form of what `replay locate` found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replay.locate.alignment import LayerGap, Parting
from replay.locate.locating import Alone, Located
from replay.locate.records import Key
from replay.locate.wording import describe_root

__all__ = ["layer_form", "located_form"]


def located_form(located: Located, frames: list[int]) -> dict[str, Any]:
    """Return one call's object; every key is always there."""
    parting = located.parting
    return {
        "frames": frames,
        "call": located.job.call.id,
        "model": located.job.model.name,
        "differs": located.differs,
        "first_difference": layer_form(located),
        "structure": parting.structure if parting else None,
        "conclusion": describe_root(located),
        "layers": _layers(parting, located.alone),
        "operators": _layers(located.operators, {}),
        "reason": located.reason,
    }


def layer_form(located: Located) -> dict[str, Any] | None:
    """Return where two runs part: the layer and the operator; None where no layer was found."""
    root = located.root
    if root is None or located.parting is None:
        return None
    operator = located.operator
    before = located.parting.before
    return {
        "path": root.key[0],
        "kind": root.kind,
        "call_index": root.key[2],
        "operator": operator[1] if operator else None,
        "before": before[0] if before else None,
        "rel_l2": root.rel_l2,
        "weights_differ": [name for name, _ in root.weights],
    }


def _layers(parting: Parting | None, alone: Mapping[Key, Alone]) -> list[dict[str, Any]]:
    return [_layer(layer, alone.get(layer.key)) for layer in parting.layers] if parting else []


def _layer(layer: LayerGap, alone: Alone | None) -> dict[str, Any]:
    path, operator, index = layer.key
    return {
        "path": path,
        "operator": operator or None,
        "call_index": index,
        "kind": layer.kind,
        "is_leaf": layer.is_leaf,
        "inputs_match": layer.inputs_match,
        "outputs_match": layer.outputs_match,
        "rel_l2": layer.rel_l2,
        "alone": None if alone is None else {"rel_l2": alone.rel_l2, "max_abs": alone.max_abs},
        "weights": [{"name": name, "rel_l2": rel_l2} for name, rel_l2 in layer.weights],
    }
