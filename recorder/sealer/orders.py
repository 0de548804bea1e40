"""A window that waits to be sealed: for what its host still tells of its models, or for another try."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recorder.sealer.window import ClosedWindow

__all__ = ["Order"]

#: How long an incident waits for its model's digest and graph, while the host is still working on them.
MODEL_WAIT_SECONDS = 60.0
#: How long it waits for its models' weights to be compared once more: a host does so every second.
COMPARE_WAIT_SECONDS = 2.5
#: After what pauses an incident of a living host is tried again, where it may work another time: a disk that is full
#: is cleaned by the minute. So long its window's copies take room that later ones may need; of so many at once.
AGAIN_SECONDS = (2.0, 10.0, 30.0)
MAX_AGAIN = 4


@dataclass(slots=True, eq=False)
class Order:
    """A window that is to be sealed, and when."""

    window: ClosedWindow
    report: Callable[[dict[str, Any]], None]
    host_is_there: Callable[[], bool]
    once: bool
    done: Callable[[bool], None]
    submitted: float = field(default_factory=time.monotonic)
    tries: int = 0
    not_before: float = 0.0

    def is_ready(self) -> bool:
        """Whether all that the host will tell of its models and environment is known, or the time for it is over."""
        window = self.window
        if not self.host_is_there():
            return True
        now = time.monotonic()
        if self.tries:
            return now >= self.not_before
        if window.unverified_calls and now < self.submitted + COMPARE_WAIT_SECONDS:
            return False
        return not window.latched.awaited(window.contexts, window.models) or now > self.submitted + MODEL_WAIT_SECONDS

    def postpone(self, postponed: int) -> bool:
        """Have it tried again later, ``postponed`` others being so already; False: it has been often enough."""
        if self.tries == len(AGAIN_SECONDS) or postponed >= MAX_AGAIN:
            return False
        self.not_before = time.monotonic() + AGAIN_SECONDS[self.tries]
        self.tries += 1
        return True
