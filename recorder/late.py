"""Records whose bytes are still under way from a GPU: reserved in their order, committed when the copies are done."""

from __future__ import annotations

import threading
import time
from collections import deque
from ctypes import memmove
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recorder.capture.device import Copies, Copy
from recorder.capture.leaf import RemoteLeaf
from recorder.counts import Counts

if TYPE_CHECKING:
    from recorder.capture import Description
    from recorder.ring import Reservation, RingWriter

__all__ = ["LateRecords"]


@dataclass(slots=True)
class _Late:
    reservation: Reservation | None  #: None: given up, and waiting only for copies that cannot be called back
    copies: list[tuple[Copy, int]]  #: each with its address in the ring


class LateRecords:
    """A queue of reservations; `drain` commits those at its head whose copies are done. Never waits.

    Args:
        ring: where they are reserved.
        copies: starts copies.
        lost: counts records that had to be given up.
    """

    def __init__(self, ring: RingWriter, copies: Copies, lost: Counts) -> None:
        self._ring = ring
        self._copies = copies
        self._lost = lost
        self._lock = threading.RLock()
        self._queue: deque[_Late] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, reservation: Reservation, payload: Description, start: int) -> bool:
        """Fill a reservation from its payload, which begins ``start`` bytes into it; False when that cannot be.

        What is on the host is copied now, what is on a device later.
        """
        with self._lock:
            late = _Late(reservation, [])
            try:
                for leaf, offset in zip(payload.leaves, payload.offsets, strict=True):
                    address = reservation.address + start + offset
                    if not isinstance(leaf, RemoteLeaf):
                        leaf.copy_to(address)
                        continue
                    copy = self._copies.start(leaf.tensor)
                    if copy is None:
                        self._lost.add("device-copy-refused")
                        payload.why_refused = "which could not be copied from its device without waiting"
                        late.reservation = None
                        break
                    late.copies.append((copy, address))
            except BaseException:
                late.reservation = None
                raise
            finally:
                if late.reservation is None:
                    self._ring.abandon(reservation)
                if late.copies:
                    self._queue.append(late)
            return late.reservation is not None

    def drain(self) -> None:
        """Commit what is done, in order."""
        if not self._queue or not self._lock.acquire(blocking=False):
            return
        try:
            while self._queue and all(copy.done.query() for copy, _ in self._queue[0].copies):
                self._settle(self._queue.popleft())
        finally:
            self._lock.release()

    def finish(self, timeout_seconds: float) -> None:
        """Drain until nothing is left or time is up; for the end of a recording, off the hot path."""
        deadline = time.monotonic() + timeout_seconds
        while self._queue and time.monotonic() < deadline:
            self.drain()
            if self._queue:
                time.sleep(0.005)

    def _settle(self, late: _Late) -> None:
        intact = all(copy.is_intact for copy, _ in late.copies)
        for copy, address in late.copies:
            if late.reservation is not None and intact:
                memmove(address, copy.place.data_ptr(), copy.place.numel())
            self._copies.release(copy)
        if late.reservation is None:
            return
        if intact:
            self._ring.commit(late.reservation)
        else:
            self._lost.add("device-overwritten")
            self._ring.abandon(late.reservation)
