"""What the sealer tells the host: one JSON object a line, in a file beside the ring."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

__all__ = ["StatusReader", "StatusWriter", "status_path"]

#: The host reads at most this much at a time, and the sealer's lines are far shorter.
MAX_READ_BYTES = 2**20
#: The file is shortened above this, to its last lines; both together stay within their share of ``max_bytes``.
MAX_FILE_BYTES, KEPT_BYTES = 2**16, 2**14


def status_path(ring: Path) -> Path:
    """Return where the sealer reports on a ring."""
    return ring.with_name(ring.name + ".status")


class StatusWriter:
    """The sealer's side. A file that cannot be written is not an error: the host then knows less.

    Lines are numbered. A file that has become too long is replaced by one with its last lines.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._number = max((event.get("n", 0) for event in _events(_tail(path))), default=0)

    def append(self, event: dict[str, Any]) -> None:
        """Append one event."""
        with self._lock:
            self._number += 1
            line = json.dumps({"n": self._number, **event}, separators=(",", ":")).encode() + b"\n"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                descriptor = os.open(self._path, flags, 0o600)
                try:
                    os.write(descriptor, line)
                    full = os.fstat(descriptor).st_size > MAX_FILE_BYTES
                finally:
                    os.close(descriptor)
                if full:
                    self._shorten()
            except OSError:
                return

    def _shorten(self) -> None:
        shorter = self._path.with_name(self._path.name + ".partial")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(shorter, flags, 0o600)
        try:
            os.write(descriptor, _tail(self._path))
        finally:
            os.close(descriptor)
        shorter.replace(self._path)


class StatusReader:
    """The host's side: reads what has come since the last call. A host that looks rarely may miss the oldest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._file = 0
        self._number = 0

    def poll(self) -> list[dict[str, Any]]:
        """Return the new events, oldest first; empty when there are none or the file is not there."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            file = os.fstat(descriptor).st_ino
            if file != self._file:
                self._file, self._offset = file, 0
            data = os.pread(descriptor, MAX_READ_BYTES, self._offset)
        except OSError:
            return []
        finally:
            os.close(descriptor)
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        events = [event for event in _events(data[:complete]) if event.get("n", self._number + 1) > self._number]
        if events:
            self._number = events[-1].get("n", self._number)
        return events


def _tail(path: Path) -> bytes:
    """The last whole lines of a status file, KEPT_BYTES at most."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        start = max(0, os.fstat(descriptor).st_size - KEPT_BYTES - 1)
        data = os.pread(descriptor, KEPT_BYTES + 1, start)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return data if len(data) <= KEPT_BYTES else data[data.find(b"\n") + 1 :]


def _events(data: bytes) -> list[dict[str, Any]]:
    events = []
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and type(event.get("n", 0)) is int:
            events.append(event)
    return events
