"""Keeps the recorder's own time on calling threads under a share of wall time, by recording less.

Two levers, in this order: of most frames only metadata and structure are recorded (payloads thinned, every n-th
kept), and if even that is too much, of most frames nothing (frames thinned). Pure logic: time is handed in.

Over a sliding window the recorder may spend its budget unevenly, so that a burst is recorded in full. Once the window
is overspent, an interval is chosen from the measured share; it is raised whenever the share of the last seconds is
still above the budget, and lowered only after it would have been kept with room to spare for a whole while. So the
interval settles instead of swinging.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

__all__ = ["Admission", "Governor", "Verdict"]

NANOSECONDS = 1e9
#: How often the share is looked at: often enough to catch an overload early, seldom enough to cost nothing.
TICK_SECONDS = 1.0
#: The budget holds on average over so long: at 1 % a burst may take 0.3 s, some 600 frames of 720p.
WINDOW_SECONDS = 30.0
#: An interval is judged by what was measured while it held, at least so long: two ticks smooth a scheduling hiccup.
SETTLE_SECONDS = 2.0
#: The interval is lowered only when the budget would have been kept with it for so long …
CALM_SECONDS = 10.0
#: … with this much room: the load of services moves by some ten per cent, and the interval must not move with it.
ROOM = 0.8
#: Of so many frames one payload is kept whatever it costs: at 30 frames per second one in two seconds.
MAX_PAYLOAD_INTERVAL = 64
#: Of so many frames one is recorded whatever it costs.
MAX_FRAME_INTERVAL = 1_024
_NEVER_NS = 2**63


class Admission:
    """How much of a frame is recorded."""

    FULL = 0
    WITHOUT_PAYLOAD = 1
    NOTHING = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look at the share changed.

    Attributes:
        affordable_per_second: frames per second that the budget would pay for in full; None while nothing is known.
        first: whether this is the first time that anything is thinned.
    """

    affordable_per_second: float | None
    first: bool


class Governor:
    """Admits frames.

    Args:
        budget: share of wall time, more than 0; 1 or more never thins.
        now_ns: monotonic nanoseconds.

    Attributes:
        due_ns: when `look` wants to be called next; comparing with it is all that a frame pays for.
        payload_interval: every n-th frame keeps its payload; 1: all.
        frame_interval: every n-th frame is recorded at all; 1: all.
        affordable_per_second: see `Verdict`.
    """

    def __init__(self, budget: float, now_ns: int) -> None:
        self.budget = budget
        self.payload_interval = 1
        self.frame_interval = 1
        self.affordable_per_second: float | None = None
        self.due_ns = now_ns + int(TICK_SECONDS * NANOSECONDS) if budget < 1 else _NEVER_NS
        self._frames = itertools.count()  # one call in C: no lock, no frame counted twice
        #: (time, recorder's time so far, full frames so far), one a tick, oldest first
        self._past: deque[tuple[int, int, int]] = deque([(now_ns, 0, 0)])
        self._since_ns = now_ns
        self._since_spent_ns = 0
        self._calm_ns = now_ns
        self._warned = False

    @property
    def thinning(self) -> bool:
        """Whether anything is left out now."""
        return self.payload_interval > 1

    def admit(self) -> int:
        """Say how much of the next frame is recorded: an `Admission`."""
        if self.payload_interval == 1:
            return Admission.FULL
        number = next(self._frames)
        if number % (self.payload_interval * self.frame_interval) == 0:
            return Admission.FULL
        return Admission.WITHOUT_PAYLOAD if number % self.frame_interval == 0 else Admission.NOTHING

    def look(self, now_ns: int, spent_ns: int, frames: int) -> Verdict | None:
        """Compare the share with the budget and adapt; call it when ``due_ns`` has passed.

        Args:
            now_ns: monotonic nanoseconds; a clock that stands still or goes back changes nothing.
            spent_ns: the recorder's time on calling threads since the beginning.
            frames: frames recorded in full since the beginning.

        Returns:
            None while nothing was left out more than before.
        """
        last_ns = self._past[-1][0]
        self.due_ns = max(now_ns, last_ns) + int(TICK_SECONDS * NANOSECONDS)
        if now_ns <= last_ns:
            return None
        self._past.append((now_ns, spent_ns, frames))
        while len(self._past) > 2 and self._past[1][0] <= now_ns - WINDOW_SECONDS * NANOSECONDS:
            self._past.popleft()
        if self.thinning:
            return self._adapt(now_ns, spent_ns)
        _, spent_before, frames_before = self._past[0]
        spent = spent_ns - spent_before
        # Divided by the whole window, also before it has passed: what came before it was silence.
        if spent <= self.budget * WINDOW_SECONDS * NANOSECONDS:
            return None
        self.affordable_per_second = self.budget * NANOSECONDS * max(1, frames - frames_before) / spent
        recent_ns, recent_spent, _ = self._past[max(0, len(self._past) - 1 - round(SETTLE_SECONDS / TICK_SECONDS))]
        share = (spent_ns - recent_spent) / max(1, now_ns - recent_ns)
        return self._set(self.payload_interval * max(share / self.budget, 1 / ROOM), now_ns, spent_ns)

    def _adapt(self, now_ns: int, spent_ns: int) -> Verdict | None:
        held_ns = now_ns - self._since_ns
        if held_ns < SETTLE_SECONDS * NANOSECONDS:
            return None
        share = (spent_ns - self._since_spent_ns) / held_ns
        interval = self.payload_interval * self.frame_interval
        if share > self.budget:
            return self._set(interval * share / self.budget, now_ns, spent_ns)
        # The share cannot grow faster than the interval shrinks: what a kept payload costs does not depend on it.
        wanted = max(1, math.ceil(interval * share / (ROOM * self.budget)))
        if wanted >= interval:
            self._calm_ns = now_ns
        elif now_ns - self._calm_ns >= CALM_SECONDS * NANOSECONDS:
            self._set(max(wanted, interval // 2), now_ns, spent_ns)
        if held_ns > CALM_SECONDS * NANOSECONDS:  # judge by what is, not by what was minutes ago
            self._since_ns, self._since_spent_ns = now_ns, spent_ns
        return None

    def _set(self, interval: float, now_ns: int, spent_ns: int) -> Verdict:
        whole = max(1, math.ceil(interval))
        self.payload_interval = min(whole, MAX_PAYLOAD_INTERVAL)
        self.frame_interval = min(math.ceil(whole / self.payload_interval), MAX_FRAME_INTERVAL)
        self._since_ns, self._since_spent_ns, self._calm_ns = now_ns, spent_ns, now_ns
        if not self.thinning:
            self._past.clear()
            self._past.append((now_ns, spent_ns, 0))
        first = not self._warned
        self._warned = True
        return Verdict(self.affordable_per_second, first)
