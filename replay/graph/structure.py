"""Structures of numbered values in a stored graph: how it is called, what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from replay.graph.arguments import MAX_DEPTH, GraphRefused, Kind, Ref, whole_number

__all__ = ["call_pattern", "refs_of", "structure"]


def call_pattern(value: Any, inputs: range, outermost: type) -> Any:
    """The structure of the call: containers of Refs to inputs and plain values."""
    pattern = structure(value, [Kind.TENSOR] * inputs.stop, 0)
    numbers = [ref.number for ref in refs_of(pattern)]
    if type(pattern) is not outermost or any(number not in inputs for number in numbers):
        raise GraphRefused("The graph does not say how it is called.")
    return pattern


def structure(value: Any, kinds: list[Kind], depth: int) -> Any:
    """A structure of values: of a call, of its answer."""
    if depth > MAX_DEPTH:
        raise GraphRefused(f"The graph nests values deeper than {MAX_DEPTH} levels.")
    match value:
        case None | bool() | int() | float() | str():
            return value
        case {"float": "nan" | "inf" | "-inf" as number}:
            return float(number)
        case {"ref": number} if (whole := whole_number(number, len(kinds))) is not None:
            return Ref(whole)
        case {"tuple": list() as items}:
            return tuple(structure(item, kinds, depth + 1) for item in items)
        case {"list": list() as items}:
            return [structure(item, kinds, depth + 1) for item in items]
        case {"dict": list() as pairs} if all(_is_pair(pair) for pair in pairs):
            return {key: structure(item, kinds, depth + 1) for key, item in pairs}
    raise GraphRefused("The graph names a value that is not there or of another form than this version knows.")


def _is_pair(pair: Any) -> bool:
    return (
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str | int) and not isinstance(pair[0], bool)
    )


def refs_of(value: Any) -> Iterable[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from refs_of(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from refs_of(item)
