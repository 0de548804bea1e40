"""What an operator asks from outside the process: a touched file, an opt-in signal. Looked at once a second.

The threads of the host never look. The file is never opened: its status is enough.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

__all__ = ["OperatorFile", "OperatorSignal", "checked_signal", "mark_of"]

#: How often the file is looked at.
LOOK_SECONDS = 1.0

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


def mark_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """Return what changes when a file is touched or replaced; empty while it is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116  # Path.stat is this call with a detour
    except (OSError, ValueError):
        return ()
    return status.st_mtime_ns, status.st_ino


class OperatorFile:
    """Notices that a file is touched. The sealer looks, so that a host that hangs can be asked too.

    Args:
        path: fires when it appears, or its modification time or identity changes.
        seen: its mark when the host began, so that nothing is missed until a sealer is there; None: as it is now.
    """

    def __init__(self, path: Path, seen: Sequence[int] | None = None) -> None:
        self.reason = f"an operator touched {path.name}"
        self._path = path
        self._seen = tuple(seen) if seen is not None else mark_of(path)
        self._next_look = 0.0

    def was_touched(self, now_seconds: float) -> bool:
        """Say whether it was touched since the last look; looks once a second however often it is called."""
        if now_seconds < self._next_look:
            return False
        self._next_look = now_seconds + LOOK_SECONDS
        seen, self._seen = self._seen, mark_of(self._path)
        return bool(self._seen) and self._seen != seen


class OperatorSignal:
    """Notices a signal that the host does not use. The keeper's thread looks.

    Args:
        number: the signal; only the main thread can install a handler.
        refused: told in one word why it cannot be listened to.
    """

    def __init__(self, number: int, refused: Callable[[str], None]) -> None:
        self.reason = f"an operator sent {_name(number)}"
        self._refused = refused
        self._number = number if self._listen(number, refused) else None
        self._heard = _arrived[number]

    def has_arrived(self) -> bool:
        """Say whether it came since the last look."""
        if self._number is None:
            return False
        heard, self._heard = self._heard, _arrived[self._number]
        if signal.getsignal(self._number) is not _count:
            # A server that installs its handlers after it has loaded the application: it has the signal now.
            self.close()
            self._refused("trigger-signal-taken")
        return self._heard != heard

    def close(self) -> None:
        """Put the signal's default back, if the handler is still ours and this is the main thread.

        From another thread it stays: it counts, and nobody looks. A forked child does this too: the signal is its own
        again, until it records itself.
        """
        number, self._number = self._number, None
        if number is not None:
            _listeners[number] -= 1
            if _listeners[number] <= 0 and signal.getsignal(number) is _count:
                with contextlib.suppress(ValueError):
                    signal.signal(number, signal.SIG_DFL)

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


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
