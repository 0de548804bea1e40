"""A range of the ring in the hands of a caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recorder.ring.mapping import Mapping

if TYPE_CHECKING:
    from recorder.ring.writer import RingWriter

__all__ = ["Reservation"]


class Reservation:
    """A range of the ring that is the caller's until it is committed or abandoned; a forgotten one abandons itself."""

    __slots__ = ("_mapping", "_slot_word", "_start", "_writer", "address", "number", "region", "size_bytes")

    region: int
    number: int  #: of the record within its region, from 1
    address: int  #: of the first mapped byte, a multiple of 64
    size_bytes: int

    def __init__(
        self,
        writer: RingWriter,
        mapping: Mapping,
        region: int,
        number: int,
        start: int,
        size_bytes: int,
        slot_word: int,
    ) -> None:
        self._mapping = mapping
        self._start = start
        self._slot_word = slot_word
        self.region = region
        self.number = number
        self.address = mapping.address + start
        self.size_bytes = size_bytes
        self._writer: RingWriter | None = writer  # None once settled

    @property
    def view(self) -> memoryview:
        """The mapped bytes, writable, ``size_bytes`` long. It keeps the mapping alive as long as it lives."""
        return self._mapping.view[self._start : self._start + self.size_bytes]

    def put(self, data: bytes) -> None:
        """Copy a few bytes to the beginning; unlike a copy to ``address`` it does not let other threads in between."""
        if len(data) > self.size_bytes:
            raise ValueError(f"{len(data)} bytes do not fit a record of {self.size_bytes}.")
        self._mapping.view[self._start : self._start + len(data)] = data

    def __del__(self) -> None:
        # A host's exception between reserve and commit must not block the ring for ever.
        try:
            writer = self._writer
        except AttributeError:  # interrupted while it was made
            return
        if writer is not None:
            writer.abandon(self)
