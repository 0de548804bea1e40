"""Heads of records that repeat: packed once, and filled per call with what differs.

A service calls its models with the same shapes over and over; of a record's head only a few numbers change then. They
are moved to the front of the map and take a fixed width, the rest is kept as packed bytes. A template is made from the
very head that the plain path has just written, so both say the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from recorder.records import HEAD_LENGTH, pack_value

__all__ = ["HeadTemplate", "Templates", "pack_plain_end"]

_FLOAT = struct.Struct(">d")
#: Of a msgpack value of fixed width: the bytes before the number, and its letter in the struct module.
_WIDTHS = {"integer": (b"\xcf", "Q"), "float": (b"\xcb", "d"), "list of one": (b"\x91\xcf", "Q")}

#: Shapes remembered; a service with more varied inputs than this takes the plain path for some of them.
MAX_TEMPLATES = 128


class HeadTemplate:
    """One head with three numbers left open, and perhaps its last value.

    Args:
        holes: names of the three open fields, each with its form: "integer" (unsigned), "float" or "list of one".
        head: the whole head, with any value in the open fields.
        last: a field whose packed value is given at each call, of any length; it becomes the last of the map.
    """

    __slots__ = ("_first", "_fourth", "_length", "_pack", "_second", "_start", "_third")

    def __init__(self, holes: Mapping[str, str], head: Mapping[str, Any], last: str | None = None) -> None:
        first, second, third = ((pack_value(name) + _WIDTHS[form][0]) for name, form in holes.items())
        rest = {name: value for name, value in head.items() if name not in holes and name != last}
        self._second, self._third = second, third
        self._fourth = b"".join(pack_value(name) + pack_value(value) for name, value in rest.items())
        if last is not None:
            self._fourth += pack_value(last)
        self._start = _map_of(len(rest) + len(holes) + (last is not None)) + first
        self._length = len(self._start) + len(second) + len(third) + len(self._fourth) + 3 * 8
        self._first = HEAD_LENGTH.pack(self._length) + self._start
        letters = [_WIDTHS[form][1] for form in holes.values()]
        pieces = (self._first, self._second, self._third)
        layout = "".join(f"{len(piece)}s{letter}" for piece, letter in zip(pieces, letters, strict=True))
        self._pack = struct.Struct(f">{layout}{len(self._fourth)}s").pack

    def pack(self, first: float, second: float, third: float) -> bytes:
        """Return the bytes of length and head."""
        return self._pack(self._first, first, self._second, second, self._third, third, self._fourth)

    def pack_with(self, first: float, second: float, third: float, last: bytes) -> bytes:
        """Return the bytes of length and head, given the packed last value."""
        length = HEAD_LENGTH.pack(self._length + len(last)) + self._start
        return self._pack(length, first, self._second, second, self._third, third, self._fourth) + last


class Templates:
    """Templates by the key of what repeats, each with the bytes of its payload; forgets all when there are too many."""

    __slots__ = ("_known", "get")

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[HeadTemplate, int]] = {}
        #: Return (template, payload bytes) of a key, or None.
        self.get = self._known.get

    def learn(self, key: tuple[Any, ...], template: HeadTemplate, payload_bytes: int) -> None:
        """Remember a template."""
        if len(self._known) >= MAX_TEMPLATES:
            self._known.clear()
        self._known[key] = (template, payload_bytes)

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()


def pack_plain_end(latency_seconds: float, metadata: bytes) -> bytes:
    """Return the bytes of length and head of an END record without answer, exception and losses.

    Args:
        latency_seconds: of the frame.
        metadata: packed.
    """
    return b"".join(
        (HEAD_LENGTH.pack(_END_BYTES + len(metadata)), _END_FIRST, _FLOAT.pack(latency_seconds), _END_REST, metadata)
    )


def _map_of(fields: int) -> bytes:
    if fields > 15:
        raise ValueError("a head has at most fifteen fields")
    return bytes([0x80 | fields])


_END_FIRST = _map_of(5) + pack_value("latency") + b"\xcb"
_END_PARTS: tuple[Any, ...] = ("output", None, "exception", None, "lost", {}, "metadata")
_END_REST = b"".join(map(pack_value, _END_PARTS))
_END_BYTES = len(_END_FIRST) + 8 + len(_END_REST)
