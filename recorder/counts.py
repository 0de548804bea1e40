"""Counters by reason: every loss, suppression and caught fault is counted under a short fixed name."""

from __future__ import annotations

import threading
from collections.abc import Mapping

__all__ = ["Counts"]

#: More reasons than this would mean that one of them is made of data; the rest are counted as "other".
MAX_REASONS = 64


class Counts:
    """A thread-safe map from reason to number. The lock is re-entrant: garbage collection can call back into it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}

    def add(self, reason: str, number: int = 1) -> None:
        """Count ``number`` more of a reason."""
        with self._lock:
            if reason not in self._counts and len(self._counts) >= MAX_REASONS:
                reason = "other"
            self._counts[reason] = self._counts.get(reason, 0) + number

    def update(self, counts: Mapping[str, int]) -> None:
        """Count another map's numbers too."""
        for reason, number in counts.items():
            self.add(reason, number)

    def snapshot(self) -> dict[str, int]:
        """Return a copy."""
        with self._lock:
            return dict(self._counts)
