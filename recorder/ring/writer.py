"""The writing side of a ring: reserve a range, copy into it, commit; or all of it in one go, by `append`.

Reserving is short and under one lock; copying happens outside it, by any number of threads at once; committing takes no
lock. Before a reservation is handed out, every record it overlaps has lost its commit word, so that no reader can take
foreign bytes for a record. Nothing here raises into the caller once the ring stands: what cannot be kept is refused and
counted by reason.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from ctypes import memmove
from pathlib import Path

from recorder.ring.identity import RingIdentity
from recorder.ring.layout import (
    ALIGNMENT,
    COMMIT_WORD,
    FRAMES,
    KIND_WORD,
    LENGTH_WORD,
    LOSSES,
    LOSSES_OFFSET,
    MOVING,
    MOVING_OFFSET,
    SEQUENCE_WORD,
    SLOT,
    SLOT_BYTES,
    LossReason,
    RegionLayout,
    RingState,
    SlotFlag,
    pack_header,
)
from recorder.ring.mapping import Mapping, allocate, prefault
from recorder.ring.region import Region, plan_regions
from recorder.ring.reservation import Reservation

__all__ = ["RingWriter"]

_pack_slot_into = SLOT.pack_into
# Plain integers: looking up and converting an enumeration's member costs more than the store.
_RESERVED = int(SlotFlag.RESERVED)
_ABANDONED = int(SlotFlag.ABANDONED)
_MOVING_INDEX = MOVING_OFFSET // 8


class RingWriter:
    """The ring of this process. Make one with :meth:`create`; safe to use from any number of threads."""

    def __init__(self, path: Path, mapping: Mapping, regions: tuple[RegionLayout, ...]) -> None:
        self.path = path
        self.size_bytes = regions[-1].end
        self._regions = tuple(Region(number, layout) for number, layout in enumerate(regions))
        # Re-entrant: garbage collection or a signal handler can run a host's code, and so ours, inside the lock.
        self._lock = threading.RLock()
        self._inside = False
        self._sequence = 0
        self._refused_closed = 0
        #: None once closed. Read it once and keep the reference: another thread may close the ring meanwhile.
        self._mapping: Mapping | None = mapping

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        frames_bytes: int,
        events_bytes: int,
        contexts_bytes: int,
        identity: RingIdentity,
        lanes: int = 1,
    ) -> RingWriter:
        """Make the file at ``path`` and map it; an existing file is never replaced.

        Each region's bytes hold its index too and are rounded down to whole pages, so the file never takes more than
        their sum and one header page, all of it allocated now. The frames area is divided evenly into ``lanes``.
        ValueError for a region under 8 KiB, RingUnavailable when the file cannot be had.
        """
        regions = plan_regions(
            frames_bytes=frames_bytes, events_bytes=events_bytes, contexts_bytes=contexts_bytes, lanes=lanes
        )
        now = time.time_ns()
        page = bytearray(pack_header(identity, regions, now))
        MOVING.pack_into(page, MOVING_OFFSET, RingState.LIVE, now, time.monotonic_ns())
        final = Path(path).absolute()
        return cls(final, allocate(final, regions[-1].end, bytes(page)), regions)

    @staticmethod
    def file_bytes(*, frames_bytes: int, events_bytes: int, contexts_bytes: int) -> int:
        """Size of the file that :meth:`create` would make of the same arguments."""
        return plan_regions(frames_bytes=frames_bytes, events_bytes=events_bytes, contexts_bytes=contexts_bytes)[-1].end

    def reserve(self, region: int, kind: int, key: int, size_bytes: int) -> Reservation | None:
        """Take ``size_bytes`` of a region for one record, or None (counted in ``losses``) when that cannot be.

        A circular region overwrites its oldest records for it, but refuses to run over a reservation that is still
        open (``-blocked``) or a record larger than itself (``-too-large``); a latched one refuses when ``-full``.
        ``kind`` fits 32 bits, ``key`` 64. Copy into ``.view`` or to ``.address`` and then :meth:`commit`.
        """
        mine = self._regions[region]
        with self._lock:
            mapping = self._mapping
            if mapping is None:
                self._refused_closed += 1
                return None
            if self._inside:
                self._refuse(region, LossReason.REENTERED)
                return None
            self._inside = True
            try:
                taken = self._take(mine, mapping, region, kind, key, size_bytes)
                if taken is None:
                    return None
                number, first, offset, slot_word = taken
                start = mine.data_offset + offset
                reservation = Reservation(self, mapping, region, number, start, size_bytes, slot_word)
                mine.open[number] = first  # last: it always has an owner who will abandon it
                return reservation
            finally:
                self._inside = False

    def append(
        self,
        region: int,
        kind: int,
        key: int,
        head: bytes,
        payload_bytes: int = 0,
        parts: Iterable[tuple[int, int, int]] = (),
    ) -> bool:
        """Reserve, copy and commit one record: ``head`` and, from the next multiple of 64 on, a payload.

        What :meth:`reserve` and :meth:`commit` do, in the fewest steps: after a forward pass none of them is in a
        cache. The payload is made of ``parts``: address, offset within the payload, bytes; the caller keeps that
        memory alive. False (counted in ``losses``) where :meth:`reserve` gives None.
        """
        length = len(head)
        start = length + ALIGNMENT - 1 & -ALIGNMENT
        mine = self._regions[region]
        number = slot_word = 0
        try:
            with self._lock:
                mapping = self._mapping
                if mapping is None:
                    self._refused_closed += 1
                    return False
                if self._inside:
                    self._refuse(region, LossReason.REENTERED)
                    return False
                self._inside = True
                try:
                    size_bytes = start + payload_bytes if payload_bytes else length
                    taken = self._take(mine, mapping, region, kind, key, size_bytes)
                    if taken is None:
                        return False
                    number, first, offset, slot_word = taken
                    mine.open[number] = first
                finally:
                    self._inside = False
            place = mine.data_offset + offset
            mapping.view[place : place + length] = head  # lets no other thread in between, unlike the copy below
            for address, offset, part_bytes in parts:
                memmove(mapping.address + place + start + offset, address, part_bytes)
        except BaseException:
            # A host's exception (Ctrl-C) between any two lines must not block the ring for ever.
            if mine.open.pop(number, None) is not None:
                self._mark_abandoned(mapping, slot_word)  # type: ignore[arg-type]  # not None where there is a number
            raise
        mapping.words[slot_word + COMMIT_WORD] = number
        del mine.open[number]
        return True

    def _take(
        self, mine: Region, mapping: Mapping, region: int, kind: int, key: int, size_bytes: int
    ) -> tuple[int, int, int, int] | None:
        """Take a range and a slot: number, position, offset in the data area, first word of the slot. Holds the lock.

        None, counted, when there is none. The caller opens the reservation.
        """
        data_bytes = mine.data_bytes
        taken = size_bytes + ALIGNMENT - 1 & -ALIGNMENT or ALIGNMENT
        number = mine.next_number
        first = mine.cursor
        offset = first % data_bytes
        overwritten = dropped = 0
        if mine.circular:
            if taken > data_bytes:
                self._refuse(region, LossReason.TOO_LARGE)
                return None
            if offset + taken > data_bytes:  # a record is never split: skip what is left before the end
                first += data_bytes - offset
                offset = 0
            overwritten = first + taken - data_bytes  # records that begin below this position are lost
            dropped = number - mine.slot_count  # and so are numbers up to this one
            if mine.open:
                # One call in C: other threads take from this dictionary without the lock.
                oldest = min(mine.open.items(), default=None)
                if oldest is not None and (oldest[1] < overwritten or oldest[0] <= dropped):
                    self._refuse(region, LossReason.BLOCKED)
                    return None
        elif first + taken > data_bytes or number > mine.slot_count:
            self._refuse(region, LossReason.FULL)
            return None
        if mapping.cut_short():
            self._mapping = None
            self._refuse(region, LossReason.TRUNCATED)
            return None

        words = mapping.words
        live = mine.live
        while live:
            evicted = live[0]
            if evicted[1] >= overwritten and evicted[0] > dropped:
                break
            # First the bound, then the commit word: a reader that misses the commit finds out why.
            words[mine.head_word + 1] = evicted[0] + 1
            words[evicted[2]] = 0
            live.popleft()
        # An asynchronous exception (Ctrl-C) can strike between any two lines. Taking the number first means that it
        # is never given twice.
        mine.next_number = number + 1
        mine.cursor = first + taken
        slot = mine.index_offset + number % mine.slot_count * SLOT_BYTES
        sequence = 0
        if region >= FRAMES:
            sequence = self._sequence = self._sequence + 1
        _pack_slot_into(mapping.view, slot, number, offset, size_bytes, kind, _RESERVED, key, taken, sequence, 0)
        slot_word = slot >> 3
        if mine.circular:
            live.append((number, first, slot_word + COMMIT_WORD))
        words[mine.head_word] = number
        if sequence:
            words[SEQUENCE_WORD] = sequence  # after the head: who reads the sequence first misses no record up to it
        return number, first, offset, slot_word

    def commit(self, reservation: Reservation, size_bytes: int | None = None) -> bool:
        """Publish a record: from now on it survives this process. ``size_bytes`` may shorten it.

        False when there is nothing to publish: abandoned or committed before, or the ring is closed.
        """
        if reservation._writer is not self or self._mapping is None:
            return False
        words = reservation._mapping.words
        slot_word = reservation._slot_word
        if size_bytes is not None:
            if not 0 <= size_bytes <= reservation.size_bytes:
                raise ValueError(f"A record of {reservation.size_bytes} bytes cannot be committed with {size_bytes}.")
            words[slot_word + LENGTH_WORD] = size_bytes
        words[slot_word + COMMIT_WORD] = reservation.number
        reservation._writer = None
        self._regions[reservation.region].open.pop(reservation.number, None)
        return True

    def abandon(self, reservation: Reservation) -> None:
        """Give a reservation up; it no longer blocks the ring. Call it only when nothing copies into it any more."""
        if reservation._writer is not self:
            return
        reservation._writer = None
        self._mark_abandoned(reservation._mapping, reservation._slot_word)
        self._regions[reservation.region].open.pop(reservation.number, None)

    @property
    def losses(self) -> dict[str, int]:
        """Records refused so far, by reason: ``contexts-full``, ``frames-too-large``, ``frames-blocked`` …"""
        losses: dict[str, int] = {}
        for mine in self._regions:
            for reason in LossReason:
                if mine.losses[reason]:
                    name = f"{mine.layout.name}-{reason.suffix}"  # lanes have the same name
                    losses[name] = losses.get(name, 0) + mine.losses[reason]
        if self._refused_closed:
            losses["ring-closed"] = self._refused_closed
        return losses

    @property
    def open_reservations(self) -> int:
        """Reservations that were neither committed nor abandoned yet."""
        return sum(len(mine.open) for mine in self._regions)

    def last_number(self, region: int) -> int:
        """Number of the last record that was reserved in a region; 0 when there was none."""
        return self._regions[region].next_number - 1

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record that was reserved in any lane of the frames area; 0 when there was none."""
        return self._sequence

    @property
    def lanes(self) -> range:
        """Numbers of the regions that make up the frames area."""
        return range(FRAMES, len(self._regions))

    def place(self, region: int) -> tuple[int, int]:
        """Where a region is written next: the position, which never wraps, and the number of the next record."""
        mine = self._regions[region]
        return mine.cursor, mine.next_number

    def capacity(self, region: int) -> tuple[int, int]:
        """How much a region holds: bytes of data, and records."""
        mine = self._regions[region]
        return mine.data_bytes, mine.slot_count

    def oldest(self, region: int) -> int:
        """Number of the oldest record of a circular region that was not overwritten yet."""
        mine = self._regions[region]
        try:
            return mine.live[0][0]
        except IndexError:
            return mine.next_number

    def heartbeat(self) -> bool:
        """Say that this process lives; call it every few seconds. False when the ring is closed or was cut short."""
        with self._lock:
            mapping = self._mapping
            if mapping is None or mapping.cut_short():
                self._mapping = None
                return False
            # Single words, not one packed struct: a reader must never meet a half-written state.
            mapping.words[_MOVING_INDEX + 1] = time.time_ns()
            mapping.words[_MOVING_INDEX + 2] = time.monotonic_ns()
            return True

    def set_state(self, state: RingState) -> None:
        """Say how the process stands; a reader tells an orderly end from a death by it."""
        with self._lock:
            if self.heartbeat() and self._mapping is not None:
                self._mapping.words[_MOVING_INDEX] = int(state)

    def prefault(self) -> None:
        """Have the kernel map every page now instead of at the first touch; takes a while, so call it on a thread."""
        mapping = self._mapping
        if mapping is not None:
            prefault(mapping, wanted=lambda: self._mapping is mapping)

    def close(self) -> None:
        """Mark the ring closed (unless terminated) and let go of the mapping; the file stays for the sealer.

        The memory itself goes with the last open reservation or exported view, never under the feet of a copy.
        """
        with self._lock:
            if self.heartbeat() and self._mapping is not None:
                if self._mapping.words[_MOVING_INDEX] != RingState.TERMINATED:
                    self._mapping.words[_MOVING_INDEX] = int(RingState.CLOSED)
                self._mapping = None

    def after_fork_in_child(self) -> None:
        """Drop the mapping in a forked child: the ring is the parent's. Touches neither the file nor the old lock."""
        self._lock = threading.RLock()  # another thread may have held the old one when the process was copied
        self._inside = False
        self._mapping = None

    def _mark_abandoned(self, mapping: Mapping, slot_word: int) -> None:
        if self._mapping is not None and not self._mapping.cut_short():
            word = slot_word + KIND_WORD  # the kind is its lower half, the flag its upper
            mapping.words[word] = mapping.words[word] & 0xFFFFFFFF | _ABANDONED << 32

    def _refuse(self, region: int, reason: LossReason) -> None:
        counts = self._regions[region].losses
        counts[reason] += 1
        mapping = self._mapping
        if mapping is not None and not mapping.cut_short():
            mapping.words[LOSSES_OFFSET // 8 + region * (LOSSES.size // 8) + reason] = counts[reason]
