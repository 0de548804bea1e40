"""The bounded ring of records in a mapped file: one process writes it, others read it, it survives the writer."""

from __future__ import annotations

from recorder.ring.errors import RingError, RingInvalid, RingUnavailable
from recorder.ring.frame_scan import FrameScan
from recorder.ring.identity import RingIdentity
from recorder.ring.layout import CONTEXTS, EVENTS, FRAMES, RingHeader, RingState
from recorder.ring.location import choose_directory, is_alive, ring_name
from recorder.ring.reader import Record, RingReader, Scan
from recorder.ring.reservation import Reservation
from recorder.ring.writer import RingWriter

__all__ = [
    "CONTEXTS",
    "EVENTS",
    "FRAMES",
    "FrameScan",
    "Record",
    "Reservation",
    "RingError",
    "RingHeader",
    "RingIdentity",
    "RingInvalid",
    "RingReader",
    "RingState",
    "RingUnavailable",
    "RingWriter",
    "Scan",
    "choose_directory",
    "is_alive",
    "ring_name",
]
