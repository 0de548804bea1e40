"""The forms that values take in a graph document: operators' names, arguments, constants, nested structures."""

from __future__ import annotations

import base64
import math
import operator
from collections import OrderedDict
from typing import Any

import torch

from recorder.bundle.values import ITEM_SIZE_BYTES
from recorder.graph_sizes import CHECK, SIZE

__all__ = ["DTYPE_NAMES", "GraphUnwritable", "argument", "constant", "operator_name", "plain", "structure"]

#: A constant made in the forward pass (mean and deviation of a normalisation) is kept in the graph up to this size;
#: what is larger is data and belongs to the weights.
MAX_CONSTANT_BYTES = 16 * 2**10

DTYPE_NAMES = {getattr(torch, name): name for name in ITEM_SIZE_BYTES}
_MEMORY_FORMATS = {
    torch.contiguous_format: "contiguous_format",
    torch.channels_last: "channels_last",
    torch.channels_last_3d: "channels_last_3d",
    torch.preserve_format: "preserve_format",
}

#: What is computed with sizes, by what a trace calls.
_ON_SIZES: dict[Any, str] = {
    torch.ops.aten.sym_size.int: SIZE,
    torch.ops.aten._assert_scalar.default: CHECK,
    operator.add: "int.add",
    operator.sub: "int.sub",
    operator.mul: "int.mul",
    operator.floordiv: "int.floordiv",
    operator.mod: "int.mod",
    torch.sym_max: "int.max",
    torch.sym_min: "int.min",
    operator.eq: "int.eq",
    operator.ne: "int.ne",
    operator.ge: "int.ge",
    operator.gt: "int.gt",
    operator.le: "int.le",
    operator.lt: "int.lt",
}


class GraphUnwritable(RuntimeError):
    """The exported program has a part that the graph document has no form for; the message names it."""


def operator_name(target: Any) -> str:
    """Return the name that a node has in the document.

    Raises:
        GraphUnwritable: it is none of torch's own operators.
    """
    if target is operator.getitem:
        return "getitem"
    if target in _ON_SIZES:
        return _ON_SIZES[target]
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target._name}"
    raise GraphUnwritable(f"The forward pass uses the operator {target}, which is not one of torch's own.")


def argument(value: Any) -> Any:
    """Return the form of an argument that is no value of the graph."""
    match value:
        case torch.dtype() if value in DTYPE_NAMES:
            return {"dtype": DTYPE_NAMES[value]}
        case torch.device():
            return {"device": value.type}
        case torch.layout() if value is torch.strided:
            return {"layout": "strided"}
        case torch.memory_format() if value in _MEMORY_FORMATS:
            return {"memory_format": _MEMORY_FORMATS[value]}
        case _:
            return plain(value)["plain"]


def plain(value: Any) -> dict[str, Any]:
    """A scalar, boxed to tell it from an input's name."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"plain": {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    raise GraphUnwritable(f"The forward pass uses a value of type {type(value).__name__}.")


def constant(tensor: Any) -> dict[str, Any]:
    """Return the form of a tensor that was made in the forward pass."""
    dense = tensor.detach().cpu().contiguous()
    if dense.numel() * dense.element_size() > MAX_CONSTANT_BYTES:
        raise GraphUnwritable("The forward pass makes a large constant that is not one of the module's weights.")
    data = dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    return {"dtype": DTYPE_NAMES[dense.dtype], "shape": list(dense.shape), "data": base64.b64encode(data).decode()}


def structure(spec: Any, leaves: list[Any]) -> Any:
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
