"""What the sealer tells the host: one JSON object a line, in a file beside the ring."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["StatusReader", "StatusWriter", "status_path"]

#: The host reads at most this much at a time, and the sealer's lines are far shorter.
MAX_READ_BYTES = 2**20


def status_path(ring: Path) -> Path:
    """Return where the sealer reports on a ring."""
    return ring.with_name(ring.name + ".status")


class StatusWriter:
    """The sealer's side. A file that cannot be written is not an error: the host then knows less."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, event: dict[str, Any]) -> None:
        """Append one event."""
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError:
            return


class StatusReader:
    """The host's side: reads what has come since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def poll(self) -> list[dict[str, Any]]:
        """Return the new events, oldest first; empty when there are none or the file is not there."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return []
        try:
            data = os.pread(descriptor, MAX_READ_BYTES, self._offset)
        except OSError:
            return []
        finally:
            os.close(descriptor)
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        events = []
        for line in data[:complete].splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events
