"""Counts faults in a row: a recorder that fails again and again is switched off rather than kept failing."""

from __future__ import annotations

import threading

__all__ = ["FaultRow", "MAX_FAULTS", "WITHIN_SECONDS"]

#: One bad input gives one fault; a hundred without a good frame between them: the recorder does not work here.
MAX_FAULTS = 100
#: Faults further apart cost a service nothing, and may have as many causes.
WITHIN_SECONDS = 60.0


class FaultRow:
    """Faults since the last frame that was recorded without one.

    Attributes:
        total: faults so far; a frame that ends with the same total as it began with was recorded without one.
    """

    def __init__(self) -> None:
        self.total = 0
        self._lock = threading.RLock()
        self._row = 0
        self._began_ns = 0

    def add(self, now_ns: int) -> bool:
        """Count one; True for the one that completes the row, once.

        Args:
            now_ns: monotonic nanoseconds.
        """
        with self._lock:
            self.total += 1
            if self._row == 0 or now_ns - self._began_ns > WITHIN_SECONDS * 1e9:
                self._row, self._began_ns = 0, now_ns
            self._row += 1
            return self._row == MAX_FAULTS

    def end(self) -> None:
        """A frame was recorded without a fault: the row is over."""
        if self._row:
            with self._lock:
                self._row = 0
