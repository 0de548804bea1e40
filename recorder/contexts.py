"""Context epochs: what decides the bits besides the inputs, latched where the ring never overwrites it."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

from recorder.bundle.codec import to_json
from recorder.bundle.manifest import Context, Environment
from recorder.environment import capture_environment
from recorder.fingerprint import flags_now, whole_fingerprint
from recorder.records import Kind

__all__ = ["ContextLog"]

#: A host that flips its flags more often than this gets its last epoch for the rest; the loss is counted.
MAX_CONTEXTS = 64


class ContextLog:
    """Numbers the epochs of one session. A new one begins when a flag changes; an old one returns when it changes back.

    The number is known at once, on the calling thread; the environment behind it is described by a background job.
    """

    def __init__(
        self,
        write: Callable[[Kind, dict[str, Any]], bool],
        run_later: Callable[[Callable[[], None]], None],
        lose: Callable[[str], None],
        directory: str | None,
    ) -> None:
        self._write = write
        self._run_later = run_later
        self._lose = lose
        self._directory = directory
        self._lock = threading.RLock()
        self._known: dict[tuple[Any, ...], int] = {}
        #: The last flags and their id, in one reference: threads with flags of their own take turns here.
        self._last: tuple[tuple[Any, ...] | None, int] = (None, 0)
        self._first: Environment | None = None

    @property
    def latest(self) -> int:
        """The epoch that some thread was last seen in; free, where `current` reads all flags."""
        return self._last[1]

    def current(self) -> int:
        """Return the id of the epoch the calling thread is in."""
        flags = flags_now()
        last, number = self._last
        if flags == last:
            return number
        with self._lock:
            known = self._known.get(flags)
            if known is None:
                if len(self._known) >= MAX_CONTEXTS:
                    self._lose("contexts-full")
                    return number
                known = self._known[flags] = len(self._known)
                since_ns, fingerprint = time.time_ns(), whole_fingerprint(flags)
                self._run_later(lambda: self._describe(known, since_ns, fingerprint))
            self._last = (flags, known)
            return known

    def _describe(self, context_id: int, since_ns: int, fingerprint: tuple[Any, ...]) -> None:
        environment = capture_environment(self._directory, fingerprint=fingerprint, packages=self._first is None)
        if self._first is None:
            self._first = environment
        else:
            environment = dataclasses.replace(environment, packages=self._first.packages)
        context = Context(id=context_id, since_ns=since_ns, environment=environment)
        if not self._write(Kind.CONTEXT, to_json(context)):
            self._lose("contexts-full")
