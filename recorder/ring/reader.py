"""The reading side of a ring: follows a live one, empties a dead one, refuses a hostile one.

It reads with ``pread`` alone, never through a mapping: a file that someone truncates under a mapping kills the reader
(SIGBUS). Nothing is locked and nothing waits: a record is validated, read, and validated again; if the writer took its
place meanwhile it counts as lost.

While the writer lives, that rests on stores becoming visible in the order they were made, which x86 guarantees. A
dead writer's ring holds on every machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from recorder.ring.errors import RingInvalid, RingUnavailable
from recorder.ring.layout import (
    FRAMES,
    HEAD,
    HEADER_BYTES,
    HEADS_OFFSET,
    SEQUENCE_WORD,
    SLOT,
    SLOT_BYTES,
    RingHeader,
    SlotFlag,
    unpack_header,
)

__all__ = ["MAX_READ_BYTES", "Record", "RingReader", "Scan"]

#: Slots read at once while scanning: 64 KiB.
_SLOTS_AT_ONCE = 1024
#: Bytes copied between two looks at the slot, so that a copy of an overwritten record ends early.
_COPY_BYTES = 1 << 20
#: One ``read`` never returns more, whatever a forged slot claims; larger records go through ``copy_to``.
MAX_READ_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Record:
    """A committed record, as its slot described it. Its bytes may be overwritten any time; reading says so."""

    region: int
    number: int
    kind: int
    key: int
    offset: int  #: of its bytes within the region's data area
    size_bytes: int
    sequence: int = 0  #: across the lanes of the frames area; 0 elsewhere


class Scan:
    """The committed records of a region after a number, in order. Iterate it once; then its counts are complete.

    ``after`` is what to give the next scan; ``lost`` records were overwritten before they were seen, ``abandoned`` ones
    never committed; ``pending`` were still being written, the first of them ``first_pending`` with
    ``pending_sequence``.
    """

    def __init__(self, reader: RingReader, region: int, after: int, skip_pending: bool) -> None:
        self.after = after
        self.lost = 0
        self.abandoned = 0
        self.pending = 0
        self.first_pending: int | None = None
        self.pending_sequence = 0
        self._records = self._follow(reader, region, skip_pending)

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def _follow(self, reader: RingReader, region: int, skip_pending: bool) -> Iterator[Record]:
        head, _ = reader.head(region)
        layout = reader.header.regions[region]
        slot_count, data_bytes = layout.slot_count, layout.data_bytes
        number = max(self.after + 1, head - slot_count + 1)
        self.lost += number - self.after - 1
        self.after = number - 1
        while number <= head:
            slots = reader.slots(region, number, min(head - number + 1, _SLOTS_AT_ONCE))
            oldest: int | None = None  # asked for only when a slot has no commit, and then after the slot was read
            for found, offset, length, kind, flag, key, _, sequence, commit in SLOT.iter_unpack(slots):
                if found == number and commit == number and offset + length <= data_bytes:
                    self.after = number
                    yield Record(region, number, kind, key, offset, length, sequence)
                elif found != number or commit != 0:  # overwritten since, or damaged
                    self.lost += 1
                elif flag == SlotFlag.ABANDONED:
                    self.abandoned += 1
                else:
                    if oldest is None:
                        _, oldest = reader.head(region)
                    if number < oldest:
                        self.lost += 1
                    else:
                        self.pending += 1
                        if self.first_pending is None:
                            self.first_pending, self.pending_sequence = number, sequence
                        if not skip_pending:
                            return
                self.after = number
                number += 1


class RingReader:
    """Reads the ring at ``path``: another process's, live or dead, or a file that only claims to be one.

    RingUnavailable when it cannot be opened or is not ours, RingInvalid when it is no intact ring. ``owner_uid`` is
    whose file it may be; by default the caller's own.
    """

    def __init__(self, path: str | os.PathLike[str], *, owner_uid: int | None = None) -> None:
        self.path = Path(path)
        try:
            # Non-blocking, so that a pipe planted under the name does not hang us.
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise RingUnavailable(f"The ring {self.path} cannot be opened: {error.strerror}.") from error
        try:
            status = os.fstat(self._descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RingInvalid(f"{self.path} is no ring: it is not an ordinary file.")
            owner = os.geteuid() if owner_uid is None else owner_uid
            if status.st_uid != owner:
                raise RingUnavailable(
                    f"The ring {self.path} belongs to user {status.st_uid}, not {owner}; run this as that user."
                )
            self.header = self._read_header()  #: as of the last :meth:`refresh`
            if self.header.identity.uid != status.st_uid:
                raise RingInvalid(f"The ring {self.path} is damaged: it names another owner than its file has.")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading afterwards raises RingUnavailable."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def is_replaced(self) -> bool:
        """Whether another file stands at the ring's path by now."""
        try:
            return os.lstat(self.path).st_ino != os.fstat(self._descriptor).st_ino
        except OSError:
            return False

    def refresh(self) -> RingHeader:
        """Read the header page again: state, heartbeat, heads and losses move; RingInvalid when the geometry does."""
        header = self._read_header()
        if header.regions != self.header.regions:
            raise RingInvalid(f"The ring {self.path} is damaged: its geometry changed under the reader.")
        self.header = header
        return header

    def scan(self, region: int, after: int = 0, *, skip_pending: bool = False) -> Scan:
        """Committed records of ``region`` with a number above ``after``, in order.

        It stops at a record that is still being written, so that following a live ring misses nothing; with
        ``skip_pending`` it goes past (a dead writer, a thread that hangs).
        """
        return Scan(self, region, after, skip_pending)

    def read(self, record: Record, offset: int = 0, length: int | None = None) -> bytes | None:
        """Bytes of a record from ``offset``, to its end or ``length`` of them; None when they were overwritten."""
        start, size_bytes = self._extent(record, offset, length)
        if size_bytes > MAX_READ_BYTES:
            raise RingInvalid(f"A record of {size_bytes} bytes is more than is ever read at once; copy it to a file.")
        if not self._is_intact(record):
            return None
        data = self._pread(size_bytes, start)
        return data if self._is_intact(record) else None

    def copy_to(self, record: Record, descriptor: int, offset: int = 0, length: int | None = None) -> bool:
        """Append the same bytes to an open, seekable file, in pieces of 1 MiB, at its present position.

        False when they were overwritten meanwhile: the file is then as before. OSError when it cannot be written.
        """
        start, size_bytes = self._extent(record, offset, length)
        origin = os.lseek(descriptor, 0, os.SEEK_CUR)
        done = 0
        intact = False
        try:
            while intact := self._is_intact(record):
                if done == size_bytes:
                    break
                piece = self._pread(min(_COPY_BYTES, size_bytes - done), start + done)
                done += len(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
        finally:
            if not intact or done != size_bytes:
                with suppress(OSError):
                    os.ftruncate(descriptor, origin)
                    os.lseek(descriptor, origin, os.SEEK_SET)
        return intact

    def head(self, region: int) -> tuple[int, int]:
        """Numbers of the last record reserved in ``region`` and of the oldest not yet overwritten, as of now."""
        self.header.regions[region]  # IndexError for a region the ring does not have
        last, oldest = HEAD.unpack(self._pread(HEAD.size, HEADS_OFFSET + region * HEAD.size))
        return last, oldest

    def last_sequence(self) -> int:
        """Sequence of the last record reserved in any lane of the frames area, as of now."""
        return int.from_bytes(self._pread(8, SEQUENCE_WORD * 8), "little")

    @property
    def lanes(self) -> range:
        """Numbers of the regions that make up the frames area."""
        return range(FRAMES, len(self.header.regions))

    def slots(self, region: int, number: int, count: int) -> bytes:
        """The raw slots of ``count`` consecutive records from ``number``, at most one turn of the index."""
        layout = self.header.regions[region]
        first = number % layout.slot_count
        before_end = min(count, layout.slot_count - first)
        slots = self._pread(before_end * SLOT_BYTES, layout.index_offset + first * SLOT_BYTES)
        if before_end < count:
            slots += self._pread((count - before_end) * SLOT_BYTES, layout.index_offset)
        return slots

    def _extent(self, record: Record, offset: int, length: int | None) -> tuple[int, int]:
        """Where in the file a part of a record lies, and how long it is; never outside its region."""
        layout = self.header.regions[record.region]
        if record.offset + record.size_bytes > layout.data_bytes:
            raise RingInvalid(f"Record {record.number} does not lie within its region of the ring {self.path}.")
        if offset < 0 or (length is not None and length < 0):
            raise ValueError("A part of a record has an offset and a length of at least 0.")
        left = max(0, record.size_bytes - offset)
        size_bytes = left if length is None else min(length, left)
        return layout.data_offset + record.offset + offset, size_bytes

    def _is_intact(self, record: Record) -> bool:
        number, offset, length, kind, _, key, _, _, commit = SLOT.unpack(self.slots(record.region, record.number, 1))
        return number == commit == record.number and (offset, length, kind, key) == (
            record.offset,
            record.size_bytes,
            record.kind,
            record.key,
        )

    def _read_header(self) -> RingHeader:
        status = os.fstat(self._descriptor)
        return unpack_header(os.pread(self._descriptor, HEADER_BYTES, 0), status.st_size)

    def _pread(self, size_bytes: int, offset: int) -> bytes:
        """Exactly so many bytes; a file that no longer has them was truncated under us."""
        if self._descriptor < 0:
            raise RingUnavailable(f"The ring {self.path} was closed by its reader.")
        data = os.pread(self._descriptor, size_bytes, offset)
        if len(data) == size_bytes:
            return data
        pieces = bytearray(data)
        while len(pieces) < size_bytes:  # one call of the system returns at most 2 GiB
            data = os.pread(self._descriptor, size_bytes - len(pieces), offset + len(pieces))
            if not data:
                raise RingInvalid(f"The ring {self.path} was truncated while it was read.")
            pieces += data
        return bytes(pieces)
