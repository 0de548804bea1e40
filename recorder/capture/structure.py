"""From live objects to their tagged JSON form, with the tensors set aside as leaves."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recorder.bundle.values import MAX_DEPTH, JsonValue
from recorder.capture.leaf import Leaf, RemoteLeaf, align, array_leaf, tensor_leaf

__all__ = ["Description", "describe", "plain_metadata", "without_tensors"]

#: A value with more parts than this is cut off as opaque: no model answers so, a cyclic structure would.
MAX_NODES = 20_000
#: Longer strings are cut off as opaque: a log that slipped into the metadata must not fill the ring.
MAX_STRING_CHARS = 16_384


@dataclass(slots=True)
class Description:
    """What a value is made of.

    ``tagged`` is the value's tagged JSON form (recorder.bundle.values) in which a tensor has the keys container, dtype,
    shape, strides, alignment, device, offset and size_bytes. ``offset`` counts from the beginning of one payload in
    which the leaves' bytes follow each other at multiples of 64.
    """

    tagged: dict[str, Any]
    leaves: list[Leaf] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    size_bytes: int = 0  #: of the payload
    opaque: list[str] = field(default_factory=list)  #: type names of what could not be captured
    tensors: list[dict[str, Any]] = field(default_factory=list)  #: the tensor entries of ``tagged``, in order
    why_refused: str = "too large for the ring"  #: why a record without it had to do, where one had

    @property
    def has_remote(self) -> bool:
        """Whether some bytes are on a GPU and come later."""
        return any(type(leaf) is RemoteLeaf for leaf in self.leaves)

    def copy_to(self, address: int) -> None:
        """Copy every leaf to its place in a payload that begins at ``address``."""
        for leaf, offset in zip(self.leaves, self.offsets, strict=True):
            leaf.copy_to(address + offset)


def describe(value: object, base_offset: int = 0) -> Description:
    """Describe any object. Never raises for what it holds: what cannot be captured becomes ``{"opaque": type}``.

    Args:
        value: tensors, arrays, scalars and nested tuples, lists, dictionaries, dataclasses and namedtuples of them.
        base_offset: where in the payload the first leaf goes.
    """
    walk = _Walk(base_offset)
    tagged = walk.visit(value, 0)
    return Description(tagged, walk.leaves, walk.offsets, walk.end, walk.opaque, walk.tensors)


def without_tensors(tagged: dict[str, Any], why: str) -> dict[str, Any]:
    """Return a tagged value whose tensors could not be recorded: each becomes opaque, the rest stays."""
    [(tag, content)] = tagged.items()
    match tag:
        case "tensor":
            return {"opaque": f"{content['container']} tensor, {why}"}
        case "tuple" | "list":
            return {tag: [without_tensors(item, why) for item in content]}
        case "dict":
            return {"dict": [[key, without_tensors(item, why)] for key, item in content]}
        case "record":
            fields = [[name, without_tensors(item, why)] for name, item in content["fields"]]
            return {"record": {**content, "fields": fields}}
    return tagged


class _Walk:
    __slots__ = ("end", "leaves", "nodes", "offsets", "opaque", "tensors")

    def __init__(self, base_offset: int) -> None:
        self.leaves: list[Leaf] = []
        self.offsets: list[int] = []
        self.opaque: list[str] = []
        self.tensors: list[dict[str, Any]] = []
        self.end = base_offset
        self.nodes = 0

    def visit(self, value: Any, depth: int) -> dict[str, Any]:
        self.nodes += 1
        if value is None or value is True or value is False:
            return {"scalar": value}
        kind = type(value)
        if kind is float:
            return {"scalar": value}
        if kind is int and -(2**63) <= value < 2**63:
            return {"scalar": value}
        if kind is str and len(value) <= MAX_STRING_CHARS:
            return {"scalar": value}
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            return self._opaque(kind)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            return self._leaf(tensor_leaf(value), kind)
        if isinstance(value, np.ndarray | np.generic):
            return self._leaf(array_leaf(np.asarray(value)), kind)
        return self._container(value, kind, depth + 1)

    def _container(self, value: Any, kind: type, depth: int) -> dict[str, Any]:
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return self._record(kind, "namedtuple", zip(kind._fields, value, strict=True), depth)
        if isinstance(value, tuple):
            return {"tuple": [self.visit(item, depth) for item in value]}
        if isinstance(value, list):
            return {"list": [self.visit(item, depth) for item in value]}
        if dataclasses.is_dataclass(value):
            names = [entry.name for entry in dataclasses.fields(value)]
            return self._record(kind, "dataclass", ((name, getattr(value, name)) for name in names), depth)
        if isinstance(value, dict) and all(type(key) is str or type(key) is int for key in value):
            return {"dict": [[key, self.visit(item, depth)] for key, item in value.items()]}
        return self._opaque(kind)

    def _record(self, kind: type, form: str, pairs: Iterator[tuple[str, Any]], depth: int) -> dict[str, Any]:
        fields = [[name, self.visit(item, depth)] for name, item in pairs]
        return {"record": {"type": _name(kind), "form": form, "fields": fields}}

    def _leaf(self, described: tuple[Leaf, dict[str, Any]] | None, kind: type) -> dict[str, Any]:
        if described is None:
            return self._opaque(kind)
        leaf, tensor = described
        offset = align(self.end)
        tensor["offset"] = offset
        self.leaves.append(leaf)
        self.tensors.append(tensor)
        self.offsets.append(offset)
        self.end = offset + leaf.size_bytes
        return {"tensor": tensor}

    def _opaque(self, kind: type) -> dict[str, Any]:
        name = _name(kind)
        self.opaque.append(name)
        return {"opaque": name}


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"[:200]


def plain_metadata(metadata: Mapping[str, object]) -> tuple[dict[str, JsonValue], int]:
    """Reduce metadata to what JSON holds; returns it with the number of values that had to be left out.

    numpy scalars become Python's, tuples become lists; anything else that JSON has no form for is left out.
    """
    dropped = 0
    plain: dict[str, JsonValue] = {}
    for key, value in metadata.items():
        if type(value) is str and type(key) is str and len(value) <= 200 and len(key) <= 200 and value.isascii():
            plain[key] = value  # nearly all of them
            continue
        try:
            plain[str(key)[:200]] = _plain(value, 0)
        except Exception:  # noqa: BLE001  # the host's own containers and keys; what they raise costs this value alone
            dropped += 1
    return plain, dropped


def _plain(value: Any, depth: int) -> JsonValue:
    kind = type(value)
    if value is None or kind is bool:
        return value  # type: ignore[no-any-return]  # narrowed by the test above
    if kind is str:
        return str(value[:MAX_STRING_CHARS]).encode("utf-8", "replace").decode()
    if kind is int:
        if not -(2**63) <= value < 2**63:
            raise OverflowError("an integer beyond 64 bits")
        return int(value)
    if kind is float:
        return float(value) if math.isfinite(value) else str(value)
    if depth >= MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, np.generic):
        return _plain(value.item(), depth + 1)
    if isinstance(value, list | tuple) and len(value) <= MAX_NODES:
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict) and len(value) <= MAX_NODES:
        return {str(key)[:200]: _plain(item, depth + 1) for key, item in value.items()}
    raise TypeError("JSON has no form for it")
