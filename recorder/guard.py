"""What keeps faults of the recorder from its host."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["Guard"]


class Guard:
    """Nothing that goes wrong inside reaches the host: it is counted. The time spent inside is the recorder's."""

    __slots__ = ("_began", "_name", "_session", "_timed")

    def __init__(self, session: Session, name: str, timed: bool) -> None:
        self._session = session
        self._name = name
        self._timed = timed

    def __enter__(self) -> None:
        self._began = time.perf_counter_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._timed:
            self._session.spent_ns += time.perf_counter_ns() - self._began
        if not isinstance(error, Exception):
            return False
        self._session.fault(self._name, error)
        return True
