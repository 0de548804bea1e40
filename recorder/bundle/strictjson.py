"""JSON without its traps: one meaning for every text, a bound on everything, and text that can be encoded again."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import MAX_JSON_DEPTH, MAX_MANIFEST_BYTES, MAX_MANIFEST_NODES

__all__ = ["dumps", "loads"]

#: Integers a reader in any language can hold: signed or unsigned, 64 bits.
_INTEGERS = range(-(2**63), 2**64)
_MAX_INTEGER_DIGITS = 20

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


def dumps(data: object) -> bytes:
    """Return compact UTF-8 of what JSON can say.

    Floats that are not finite become null, integers beyond 64 bits strings, lone surrogates ``?``. Dictionaries keep
    their order; the bytes depend on nothing but the data.
    """
    text = json.dumps(_portable(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def loads(data: bytes, what: str = "the manifest") -> Any:
    """Parse JSON strictly.

    Raises:
        BundleInvalid: too long, too deep, too many parts, duplicate keys, NaN or Infinity, an integer beyond 64 bits,
            a float beyond 64 bits, a lone surrogate, or no JSON at all.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleInvalid(f"{what} is longer than {MAX_MANIFEST_BYTES} bytes; do not open this bundle")
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_MANIFEST_NODES:
        raise BundleInvalid(f"{what} has more than {MAX_MANIFEST_NODES} parts; do not open this bundle")
    try:
        text = data.decode("utf-8")
        parsed = _DECODER.decode(text)
    except RecursionError as error:
        raise BundleInvalid(f"{what} is nested too deep; do not open this bundle") from error
    except ValueError as error:  # includes JSONDecodeError and UnicodeDecodeError
        raise BundleInvalid(f"{what} is not valid JSON; fetch the bundle again") from error
    _check_depth(parsed, what)
    if _SURROGATE_ESCAPE.search(data):
        try:
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise BundleInvalid(f"{what} holds text that is not Unicode; do not open this bundle") from error
    return parsed


def _check_depth(parsed: object, what: str) -> None:
    level = [parsed]
    for _ in range(MAX_JSON_DEPTH):
        below: list[object] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        if not below:
            return
        level = below
    raise BundleInvalid(f"{what} is nested deeper than {MAX_JSON_DEPTH} levels; do not open this bundle")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BundleInvalid("the manifest has an object with a key twice; do not open this bundle")
    return unique


def _integer(digits: str) -> int:
    if len(digits) <= _MAX_INTEGER_DIGITS + 1 and (number := int(digits)) in _INTEGERS:
        return number
    raise BundleInvalid("the manifest has an integer beyond 64 bits; do not open this bundle")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isfinite(number):
        return number
    raise BundleInvalid("the manifest has a number beyond 64 bits; do not open this bundle")


def _constant(name: str) -> NoReturn:
    raise BundleInvalid(f"the manifest holds {name}, which is not JSON; do not open this bundle")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _portable(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _portable(item) for key, item in node.items()}
    if isinstance(node, list | tuple):
        return [_portable(item) for item in node]
    if isinstance(node, float):
        return node if math.isfinite(node) else None
    if isinstance(node, int):
        return node if node in _INTEGERS else str(node)
    return node
