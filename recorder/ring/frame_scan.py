"""The lanes of the frames area read as one: in the order in which their records were reserved."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

from recorder.ring.reader import Record, RingReader, Scan

__all__ = ["FrameScan"]


class FrameScan:
    """The committed records of all lanes after those already seen, by sequence. Iterate it once, to its end.

    Args:
        reader: the ring.
        after: per lane the number of the last record seen, as a previous scan left it; {} for the beginning.
        skip_pending: whether to go past records that are still being written.

    Attributes:
        after: what to give the next scan; complete, like the counts, once the iteration has ended.
        reached: every record up to this sequence has been delivered, or never will be.
        lost, abandoned, pending: as in `Scan`, of all lanes.
    """

    def __init__(self, reader: RingReader, after: Mapping[int, int], *, skip_pending: bool = False) -> None:
        # The sequence is read before the heads of the lanes: no record up to it can be missing from them.
        self.reached = reader.last_sequence()
        self._skip_pending = skip_pending
        self._scans = {lane: reader.scan(lane, after.get(lane, 0), skip_pending=skip_pending) for lane in reader.lanes}
        self._held: dict[int, int] = {}
        self.after = dict(after)
        self.lost = self.abandoned = self.pending = 0

    def __iter__(self) -> Iterator[Record]:
        lanes = [self._lane(lane, scan) for lane, scan in self._scans.items()]
        merged = lanes[0] if len(lanes) == 1 else heapq.merge(*lanes, key=lambda record: record.sequence)
        for record in merged:
            if record.sequence > self.reached:
                break
            yield record
        for lane, scan in self._scans.items():
            held = self._held.get(lane)
            self.after[lane] = scan.after if held is None else held - 1
            self.lost += scan.lost
            self.abandoned += scan.abandoned
            self.pending += scan.pending

    def _lane(self, lane: int, scan: Scan) -> Iterator[Record]:
        for record in scan:
            self._held[lane] = record.number
            yield record
        self._held.pop(lane, None)
        if scan.first_pending is not None and not self._skip_pending:
            # What another lane holds behind it waits too: a batch's tensors never come before its frames.
            self.reached = min(self.reached, max(0, scan.pending_sequence - 1))
