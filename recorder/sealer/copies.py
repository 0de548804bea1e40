"""Copies of what open windows hold: taken out of the ring before it is overwritten, within a bound of bytes."""

from __future__ import annotations

from pathlib import Path

from recorder.counts import Counts
from recorder.ring import RingReader
from recorder.sealer.stages import SpooledStages, StageRecord

__all__ = ["WindowCopies"]


class WindowCopies:
    """The copies of all windows of one ring; what could not be copied is counted for its window.

    Args:
        reader: the ring.
        directory: where they stand.
        max_bytes: how much all may take while they are open or being sealed.
    """

    def __init__(self, reader: RingReader, directory: Path, max_bytes: int) -> None:
        self._reader = reader
        self._directory = directory
        self._max_bytes = max_bytes
        self._open: dict[str, SpooledStages] = {}
        self._alive: list[SpooledStages] = []
        self._losses: dict[str, Counts] = {}

    def begin(self, incident: str) -> bool:
        """Make room for a window; False where there is none, which is counted."""
        lost = self._losses[incident] = Counts()
        try:
            spool = SpooledStages(self._directory, incident)
        except OSError:
            lost.add("spool-unavailable")
            return False
        self._open[incident] = spool
        self._alive.append(spool)
        return True

    def add(self, incident: str, stage: StageRecord) -> None:
        """Copy a record."""
        spool, lost = self._open.get(incident), self._losses[incident]
        if spool is None:
            lost.add("spool-unavailable")
            return
        self._alive = [other for other in self._alive if not other.is_closed]
        if sum(other.size_bytes for other in self._alive) + spool.cost_bytes(stage) > self._max_bytes:
            lost.add("spool-full")
            return
        try:
            if not spool.add(self._reader, stage):
                lost.add("overwritten-before-copied")
        except OSError:
            lost.add("spool-full")

    def take(self, incident: str) -> tuple[SpooledStages | None, Counts]:
        """Hand a closed window's copies over, and what was lost of it; they count until they are closed."""
        return self._open.pop(incident, None), self._losses.pop(incident, Counts())

    def drop(self, incident: str) -> None:
        """Forget a window."""
        spool, _ = self.take(incident)
        if spool is not None:
            spool.close()
