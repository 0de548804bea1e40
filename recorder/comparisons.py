"""Weights compared between calls: a change after the last call is noticed before its window is sealed."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Protocol

from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["Comparable", "Comparisons"]

#: Comparing 160 tensors takes half a millisecond. However often somebody triggers, it takes one part in so many of the
#: time; the sealer waits for it, or says that it did not happen.
SHARE = 100


class Comparable(Protocol):
    """A model whose weights can be compared with those that were announced."""

    def compare(self, session: Session) -> bool:
        """Compare them, announce what changed; say whether it could be done."""
        ...


class Comparisons:
    """The models of a session; tells the sealer up to which call their weights are known."""

    def __init__(self, session: Session) -> None:
        self._session = weakref.ref(session)
        self._models: tuple[weakref.ref[Comparable], ...] = ()  # replaced, never changed: any thread may look
        self._told = 0
        self._due_ns = 0

    def add(self, model: Comparable) -> None:
        """Compare this model's weights too."""
        known = tuple(each for each in self._models if each() not in (None, model))
        self._models = (*known, weakref.ref(model))

    def compare(self) -> None:
        """Compare what was called since the last time, unless that was a moment ago; never raises."""
        session = self._session()
        if session is None or session.calls_begun == self._told or not self._models:
            return
        began_ns = time.monotonic_ns()
        if began_ns < self._due_ns:
            return
        with session.guard("compare", timed=False):
            calls = session.calls_begun
            known = [model.compare(session) for each in self._models if (model := each()) is not None]
            now_ns = time.monotonic_ns()
            self._due_ns = now_ns + SHARE * (now_ns - began_ns)
            if all(known):
                self._told = calls
                session.write_head(Kind.VERIFIED, {"calls": calls})
