"""Heads of records that repeat: packed once, and filled per call with what differs.

A service calls its models with the same shapes over and over; of a record's head only a few numbers change then. They
take a fixed width in the template, the rest is kept as packed bytes. A template is made from the very head that the
plain path has just written, so both say the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import Enum
from typing import Any, Generic, TypeVar

from recorder.records import HEAD_LENGTH, pack_value

__all__ = ["Hole", "HeadTemplate", "Templates"]

#: Shapes remembered; a service with more varied inputs than this takes the plain path for some of them.
MAX_TEMPLATES = 128

T = TypeVar("T")


class Hole(Enum):
    """Stands in a head for a number that is given at each call.

    The value: what msgpack writes before a number of fixed width, and the number's letter in the struct module.
    """

    INTEGER = (b"\xcf", "Q")  #: unsigned
    FLOAT = (b"\xcb", "d")


class HeadTemplate:
    """One head with some numbers left open, and perhaps its last value.

    Args:
        head: the whole head, with holes in it, in nested maps and lists too.
        last: a field whose packed value is given at each call, of any length; it becomes the last of the map.
    """

    __slots__ = ("_begin", "_length", "_pack", "_pieces")

    def __init__(self, head: Mapping[str, Any], last: str | None = None) -> None:
        fixed = {name: value for name, value in head.items() if name != last}
        pieces: list[Any] = [b""]
        holes: list[Hole] = []
        _lay_out(fixed if last is None else {**fixed, last: _LAST}, pieces, holes)
        texts = pieces[::2]
        self._begin = texts[0]
        self._length = sum(map(len, texts)) + 8 * len(holes)
        pieces[0] = texts[0] = HEAD_LENGTH.pack(self._length) + self._begin
        letters = [*(hole.value[1] for hole in holes), ""]
        self._pieces = pieces
        layout = "".join(f"{len(text)}s{letter}" for text, letter in zip(texts, letters, strict=True))
        self._pack = struct.Struct(f">{layout}").pack

    def pack(self, *numbers: float) -> bytes:
        """Return the bytes of length and head, given a number for each hole in the order in which they stand."""
        pieces = self._pieces.copy()
        pieces[1::2] = numbers
        return self._pack(*pieces)

    def pack_with(self, last: bytes, *numbers: float) -> bytes:
        """Return the bytes of length and head, given the packed last value too."""
        pieces = self._pieces.copy()
        pieces[0] = HEAD_LENGTH.pack(self._length + len(last)) + self._begin
        pieces[1::2] = numbers
        return self._pack(*pieces) + last


class Templates(Generic[T]):
    """What was learnt by the key of what repeats; forgets all when there is too much of it."""

    __slots__ = ("_known", "get")

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], T] = {}
        #: Return what is known of a key, or None.
        self.get = self._known.get

    def learn(self, key: tuple[Any, ...], template: T) -> None:
        """Remember something."""
        if len(self._known) >= MAX_TEMPLATES:
            self._known.clear()
        self._known[key] = template

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()


_LAST = object()


def _lay_out(value: Any, pieces: list[Any], holes: list[Hole]) -> None:
    """Append packed bytes to the last piece; a hole ends it: then come the hole's place and a new piece."""
    if isinstance(value, Hole):
        pieces[-1] += value.value[0]
        pieces += [0, b""]
        holes.append(value)
    elif isinstance(value, Mapping):
        pieces[-1] += _length(len(value), 0x80, 0xDE)
        for name, item in value.items():
            pieces[-1] += pack_value(name)
            _lay_out(item, pieces, holes)
    elif isinstance(value, list | tuple):
        pieces[-1] += _length(len(value), 0x90, 0xDC)
        for item in value:
            _lay_out(item, pieces, holes)
    elif value is not _LAST:
        pieces[-1] += pack_value(value)


def _length(items: int, short: int, long: int) -> bytes:
    return bytes([short | items]) if items < 16 else struct.pack(">BH", long, items)
