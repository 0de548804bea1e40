"""Who may write where in the frames area: every stream its share, and all of it to a stream that is alone."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

from recorder.ring import RingWriter

__all__ = ["Lanes"]

#: A stream that wrote nothing for so long gives its lane to one that has none.
IDLE_SECONDS = 60.0
#: Streams remembered at a time; a stream key made of something unique must not grow the host.
MAX_STREAMS = 1_024
_ALIGNMENT = 64


class Lanes:
    """Leases the lanes of a ring to streams, a turn at a time.

    A stream writes a lane from its beginning to its end and then moves on: to a lane that nobody had yet; else, while
    it has fewer than its share (lanes / streams), to the oldest lane of whoever has most; else to its own oldest. So a
    stream that is alone goes round all lanes as if they were one, and a busy one never takes the last share of
    another. A stream for which there is no lane left shares the last one, which is counted.

    Args:
        ring: whose lanes they are.
        crowded: called once for each stream that gets no lane of its own.
        clock: in seconds, never going back.
    """

    def __init__(
        self, ring: RingWriter, crowded: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ring = ring
        self._crowded = crowded
        self._clock = clock
        self._lock = threading.RLock()
        self._owners: OrderedDict[int, str] = OrderedDict()  # lane entered longest ago first
        #: stream to lane, position and number at which its turn there ends
        self._turns: dict[str, tuple[int, int, int]] = {}
        self._guests: OrderedDict[str, None] = OrderedDict()
        self._looked: dict[int, tuple[int, float]] = {}

    def region(self, stream: str, size_bytes: int) -> int:
        """Return the region in which a record of a stream is to be reserved."""
        turn = self._turns.get(stream)
        if turn is not None:
            lane, last_position, last_number = turn
            position, number = self._ring.place(lane)
            if position + size_bytes <= last_position and number < last_number:
                return lane
        with self._lock:
            return self._move(stream, size_bytes)

    def owner(self, lane: int) -> str | None:
        """Return the stream that a lane is leased to."""
        return self._owners.get(lane)

    def _move(self, stream: str, size_bytes: int) -> int:
        lane = self._choose(stream)
        if lane is None:
            lane = self._ring.lanes[-1]
            if stream not in self._guests:
                self._crowded()
            self._guests[stream] = None
            while len(self._guests) > MAX_STREAMS:
                self._guests.popitem(last=False)
        else:
            self._guests.pop(stream, None)
            former = self._owners.get(lane)
            if former is not None and former != stream and self._turns.get(former, (-1,))[0] == lane:
                del self._turns[former]
            self._owners[lane] = stream
            self._owners.move_to_end(lane)
        data_bytes, slots = self._ring.capacity(lane)
        position, number = self._ring.place(lane)
        taken = -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
        begun = position // data_bytes
        wraps = position + taken > (begun + 1) * data_bytes
        self._turns[stream] = (lane, (begun + (2 if wraps else 1)) * data_bytes, number + slots)
        while len(self._turns) > MAX_STREAMS:
            del self._turns[next(iter(self._turns))]
        return lane

    def _choose(self, stream: str) -> int | None:
        for lane in self._ring.lanes:
            if lane not in self._owners:
                return lane
        held = Counter(self._owners.values())
        share = max(1, len(self._owners) // len({*held, stream}))
        if held[stream] < share:
            richest, number = held.most_common(1)[0]
            if number > share or (number > 1 and not held[stream]):
                return self._oldest(richest)
        if held[stream]:
            return self._oldest(stream)
        return self._idle()

    def _oldest(self, stream: str) -> int:
        return next(lane for lane, owner in self._owners.items() if owner == stream)

    def _idle(self) -> int | None:
        """Find a lane that nobody has written to since we looked for one, long ago."""
        now = self._clock()
        for lane in self._owners:
            position, _ = self._ring.place(lane)
            seen, since = self._looked.get(lane, (-1, now))
            if seen != position:
                self._looked[lane] = (position, now)
            elif now - since > IDLE_SECONDS:
                del self._looked[lane]
                return lane
        return None
