"""How far a ring has been judged, kept beside it: a sealer that takes over neither forgets nor repeats an incident."""

from __future__ import annotations

import contextlib
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recorder.status import StatusReader, status_path

__all__ = ["Progress", "Told", "progress_path"]

#: magic, sequence of the last settled frame record, number of the last settled event
_FORM = struct.Struct("<8sQQ")
_MAGIC = b"VFR-PROG"


def progress_path(ring: Path) -> Path:
    """Return where the progress on a ring is kept."""
    return ring.with_name(ring.name + ".progress")


class Progress:
    """The marks of one ring: everything up to them is sealed, suppressed or of no interest.

    Attributes:
        found: the marks (frames, events) that a former sealer left; (0, 0): there was none.
    """

    def __init__(self, ring: Path) -> None:
        self._path = progress_path(ring)
        self.found = (0, 0)
        self._stored = (0, 0)
        self._descriptor = -1
        with contextlib.suppress(OSError):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            data = os.pread(self._descriptor, _FORM.size, 0)
            if len(data) == _FORM.size and data.startswith(_MAGIC):
                _, frames, events = _FORM.unpack(data)
                self.found = self._stored = (frames, events)

    def store(self, marks: tuple[int, int]) -> None:
        """Move the marks; where they cannot be written a later sealer may seal something twice."""
        if marks != self._stored and self._descriptor >= 0:
            self._stored = marks
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, _FORM.pack(_MAGIC, *marks), 0)

    def close(self) -> None:
        """Close the file, which stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, slots=True)
class Told:
    """What former sealers told of a ring's incidents; the status file holds the latest of it.

    Attributes:
        sealed: those that are in the sink.
        begun: how many sealers have ended in the middle of one, as by its size or by what it holds.
    """

    sealed: frozenset[str]
    begun: Mapping[str, int]

    @classmethod
    def about(cls, ring: Path) -> Told:
        """Read it."""
        reader = StatusReader(status_path(ring))
        sealed: set[str] = set()
        begun: Counter[str] = Counter()
        while events := reader.poll():
            for event in events:
                incident = str(event.get("incident"))
                if event.get("event") == "sealing":
                    begun[incident] += 1
                elif event.get("event") in ("sealed", "failed") and "tries" not in event:
                    del begun[incident]
                    if event["event"] == "sealed":
                        sealed.add(incident)
        return cls(frozenset(sealed), begun)
