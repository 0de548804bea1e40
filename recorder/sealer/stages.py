"""Stage records as the sealer holds them: a parsed head, and where the payload's bytes are."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.capture.leaf import align
from recorder.records import HEAD_LENGTH, STAGE_KINDS, Kind, RecordInvalid, unpack_head
from recorder.ring import Record, RingReader

__all__ = ["SpooledStages", "StageRecord", "read_stages"]

#: Most heads are shorter: one read gets them.
FIRST_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage of a window, wherever its bytes are now: in a ring, or in a spool. Several may be of one record.

    ``payload(offset, size)`` returns bytes of its payload, None when they are gone.
    """

    kind: int
    key: int
    head: dict[str, Any]
    payload: Callable[[int, int], bytes | None]
    source: Record
    start: int  #: where in the record the payload begins


def read_stages(reader: RingReader, record: Record) -> tuple[StageRecord, ...]:
    """Parse a record's head: the stages it holds, in order; none when the record has been overwritten.

    Raises:
        RecordInvalid: its bytes are no head.
    """
    stage = _read(reader, record)
    if stage is None:
        return ()
    return (stage,) if stage.kind != Kind.STAGES else _apart(stage)


def _apart(record: StageRecord) -> tuple[StageRecord, ...]:
    """Return the stages that were committed at once, each as if it had been a record of its own."""
    if not record.head or any(name not in STAGE_KINDS or type(head) is not dict for name, head in record.head.items()):
        raise RecordInvalid("a record of several stages names one that this version does not know")
    return tuple(
        dataclasses.replace(record, kind=int(STAGE_KINDS[name]), head=head) for name, head in record.head.items()
    )


def _read(reader: RingReader, record: Record) -> StageRecord | None:
    data = reader.read(record, 0, FIRST_READ_BYTES)
    if data is None:
        return None
    if len(data) < HEAD_LENGTH.size:
        raise RecordInvalid("a record is shorter than its length field")
    (length,) = HEAD_LENGTH.unpack_from(data)
    end = HEAD_LENGTH.size + length
    if end > record.size_bytes:
        raise RecordInvalid("the head of a record is longer than the record")
    if end > len(data):
        data = reader.read(record, 0, end)
        if data is None:
            return None
    start = align(end)

    def payload(offset: int, size: int) -> bytes | None:
        if offset < 0 or size < 0 or start + offset + size > record.size_bytes:
            raise RecordInvalid("a part of a record lies outside of it")
        return reader.read(record, start + offset, size)

    return StageRecord(record.kind, record.key, unpack_head(data[HEAD_LENGTH.size : end]), payload, record, start)


class SpooledStages:
    """The records of one window, copied out of the ring at once so that the host may go on overwriting it.

    The file is unlinked as soon as it is open: whatever happens to the sealer, nothing is left behind.
    """

    def __init__(self, directory: Path, name: str) -> None:
        path = directory / f"{name}.spool"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        path.unlink()
        self.size_bytes = 0
        self.records: list[StageRecord] = []
        self._last: tuple[int, int] | None = None  # sequence and place of the record copied last

    def cost_bytes(self, stage: StageRecord) -> int:
        """Return how much adding a stage takes: nothing when its record is here already, for the stage before it."""
        return 0 if self._last is not None and self._last[0] == stage.source.sequence else stage.source.size_bytes

    def add(self, reader: RingReader, stage: StageRecord) -> bool:
        """Copy the record of a stage; False when it was overwritten meanwhile.

        Raises:
            OSError: the file could not be written.
        """
        size = stage.source.size_bytes
        if self._last is None or self._last[0] != stage.source.sequence:
            base = self.size_bytes
            if not reader.copy_to(stage.source, self._descriptor):
                return False
            self.size_bytes += size
            self._last = (stage.source.sequence, base)
        base = self._last[1]
        descriptor, start = self._descriptor, stage.start

        def payload(offset: int, length: int) -> bytes | None:
            if offset < 0 or length < 0 or start + offset + length > size:
                raise RecordInvalid("a part of a record lies outside of it")
            data = os.pread(descriptor, length, base + start + offset)
            return data if len(data) == length else None

        self.records.append(StageRecord(stage.kind, stage.key, stage.head, payload, stage.source, stage.start))
        return True

    @property
    def is_closed(self) -> bool:
        """Whether the space was given back."""
        return self._descriptor < 0

    def close(self) -> None:
        """Give the space back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
