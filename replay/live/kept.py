"""Answers that are dear to make: each made once, few at a time, and kept within bounds."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["Busy", "Kept"]

#: Who waits longer for others' answers to be made is told so; a bucket that hangs holds nobody but who asked for it.
_PATIENCE_SECONDS = 15.0


class Busy(Exception):
    """Too many answers are being made; try again."""


class Kept:
    """The answers asked for last, up to so many bytes. Safe to use from several threads."""

    def __init__(self, max_bytes: int, makers: int) -> None:
        """Keep up to ``max_bytes``, and make up to ``makers`` at a time: each takes the memory of a bundle's frames."""
        self._max_bytes, self._bytes = max_bytes, 0
        self._answers: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._made: dict[tuple[object, ...], Future[bytes]] = {}
        self._lock = threading.Lock()
        self._makers = threading.BoundedSemaphore(makers)

    def get(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """Return what is kept or being made for another, else make it.

        Raises:
            Busy: others' answers take too long.
        """
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
            other = self._made.get(key)
            if other is None:
                mine = self._made[key] = Future[bytes]()
        if other is not None:
            try:
                return other.result(_PATIENCE_SECONDS)
            except TimeoutError:
                raise Busy from None
        try:
            answer = self._make(make)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(answer)
            self._keep(key, answer)
            return answer
        finally:
            with self._lock:
                del self._made[key]

    def _make(self, make: Callable[[], bytes]) -> bytes:
        if not self._makers.acquire(timeout=_PATIENCE_SECONDS):
            raise Busy
        try:
            return make()
        finally:
            self._makers.release()

    def _keep(self, key: tuple[object, ...], answer: bytes) -> None:
        with self._lock:
            self._answers[key] = answer
            self._bytes += len(answer)
            while self._bytes > self._max_bytes:
                self._bytes -= len(self._answers.popitem(last=False)[1])
