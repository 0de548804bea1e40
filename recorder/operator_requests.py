"""What an operator asks from outside the process: a touched file, an opt-in signal. Looked at once a second.

The keeper's thread looks; the threads of the host never do. The file is never opened: its status is enough.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

__all__ = ["OperatorRequests", "checked_signal"]

#: How often each signal arrived. The handler does nothing else: it may interrupt any code of the host, and whatever
#: it called could meet itself or a lock that the interrupted code holds.
_arrived: Counter[int] = Counter()
#: How many recorders of this process listen to a signal; the last one puts the default back.
_listeners: Counter[int] = Counter()


def checked_signal(number: int | None) -> int | None:
    """Return a signal that may be listened to.

    Raises:
        ValueError: it is another than SIGUSR1, SIGUSR2 or a real-time signal; theirs is the only meaning that an
            application may choose, and listening to SIGTERM would make a service immortal.
    """
    if number is None:
        return None
    allowed = {int(getattr(signal, name)) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)}
    if hasattr(signal, "SIGRTMIN"):
        allowed |= set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1))
    if not isinstance(number, int) or int(number) not in allowed:
        raise ValueError(f"trigger_signal={number!r} must be SIGUSR1, SIGUSR2 or a real-time signal")
    return int(number)


class OperatorRequests:
    """Notices that somebody asks for an incident.

    Args:
        file: fires when it appears, or its modification time or identity changes; what is there already does not.
        number: the signal to listen to; only the main thread can install a handler.
        refused: told in one word why a signal cannot be listened to.
    """

    def __init__(self, file: Path | None, number: int | None, refused: Callable[[str], None]) -> None:
        self._file = file
        self._seen = _mark(file) if file is not None else None
        self._signal = number if number is not None and self._listen(number, refused) else None
        self._heard = _arrived[self._signal] if self._signal is not None else 0

    def poll(self) -> list[tuple[str, str]]:
        """Return kind and reason of what was asked for since the last time."""
        asked = []
        if self._file is not None:
            mark = _mark(self._file)
            if mark is not None and mark != self._seen:
                asked.append(("operator_file", f"an operator touched {self._file.name}"))
            self._seen = mark
        if self._signal is not None and _arrived[self._signal] != self._heard:
            self._heard = _arrived[self._signal]
            asked.append(("signal", f"an operator sent {_name(self._signal)}"))
        return asked

    def close(self) -> None:
        """Put the signal's default back, if the handler is still ours and this is the main thread.

        From another thread it stays: it counts, and nobody looks.
        """
        number, self._signal = self._signal, None
        if number is not None:
            _listeners[number] -= 1
            if _listeners[number] <= 0 and signal.getsignal(number) is _count:
                with contextlib.suppress(ValueError):
                    signal.signal(number, signal.SIG_DFL)

    def forget_after_fork(self) -> None:
        """In a forked child: the signal is the child's again, until it records itself."""
        self.close()

    @staticmethod
    def _listen(number: int, refused: Callable[[str], None]) -> bool:
        current = signal.getsignal(number)
        if current is not _count:
            if current is not signal.SIG_DFL:
                refused("trigger-signal-taken")
                return False
            if threading.current_thread() is not threading.main_thread():
                refused("trigger-signal-not-main-thread")
                return False
            signal.signal(number, _count)
            # What the signal interrupts goes on by itself, in C code of the host too.
            signal.siginterrupt(number, False)
        _listeners[number] += 1
        return True


def _count(number: int, frame: FrameType | None) -> None:
    _arrived[number] += 1


def _mark(file: Path) -> tuple[int, int] | None:
    """What changes when a file is touched or replaced; None while it is not there."""
    try:
        status = os.stat(file)  # noqa: PTH116  # Path.stat is this call with a detour
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ino


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
