"""The bytes of a track file: a header page, then six regions of fixed-size slots, each a circle.

::

    0      header page: magic, version, length, CRC-32, then JSON: owner, signals, slots of each region (4096 bytes)
    4096   streams      one slot a stream: its name
    …      rows         one slot a frame
    …      intervals    of 1 s, of 10 s, of 60 s: three regions
    …      thumbnails   small JPEG files

Slot ``n`` of a region (numbers start at 1) stands at ``n % slots``. A slot begins with the CRC-32 of the rest of it:
that is the commit, a slot half-written or never written does not match. The file never changes its size.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recorder.track.decimation import LEVELS

__all__ = [
    "HEADER_BYTES",
    "INTERVAL_HEAD",
    "INTERVALS",
    "Layout",
    "MAX_TRACK_BYTES",
    "MIN_TRACK_BYTES",
    "ROW_HEAD",
    "ROWS",
    "STREAM_HEAD",
    "STREAMS",
    "THUMBNAIL_HEAD",
    "THUMBNAILS",
    "TrackInvalid",
    "TrackUnavailable",
    "pack_header",
    "plan",
    "seal_slot",
    "slot_is_sound",
    "track_path",
    "unpack_header",
]

_MAGIC = b"VFR-TRAK"
_VERSION = 1
HEADER_BYTES = 4096
_FIXED = struct.Struct("<8sIII")

#: A hundred cameras for an hour fit; a reader may hold all of it in memory.
MAX_TRACK_BYTES = 64 * 2**20
#: A minute of one camera at 5 frames a second, and its intervals.
MIN_TRACK_BYTES = 128 * 2**10
_MAX_SIGNALS = 64
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

#: Region numbers; of intervals one for each of LEVELS.
STREAMS, ROWS, INTERVALS, THUMBNAILS = 0, 1, 2, 2 + len(LEVELS)
_REGIONS = THUMBNAILS + 1

#: crc, stream, status, spare, number, frame, time, monotonic, digest, top class, spare; then a float32 for each signal.
ROW_HEAD = struct.Struct("<IHBBQQqqQiI")
#: crc, stream, seconds, frames, raised, number, first frame, last row, start, time; then float32 minimum, mean, maximum
#: and uint32 count for each signal, one kind after the other.
INTERVAL_HEAD = struct.Struct("<IHHIIQQQqq")
#: crc, stream, length, number; then the name in UTF-8, at most 200 characters.
STREAM_HEAD = struct.Struct("<IHHQ")
_STREAM_SLOT_BYTES = 1024
#: crc, stream, length, number, frame, time, monotonic; then the file.
THUMBNAIL_HEAD = struct.Struct("<IHHQQqq")
_THUMBNAIL_SLOT_BYTES = 4096

#: Shares of the file. A camera at 30 frames a second and an hour of history take 270 kB of rows, 250 kB of one-second,
#: 150 kB of ten-second and 25 kB of sixty-second intervals and 740 kB of thumbnails.
_SHARES = {ROWS: 0.3, INTERVALS: 0.25, INTERVALS + 1: 0.2, INTERVALS + 2: 0.05, THUMBNAILS: 0.2}
#: One stream of the table for so many bytes of the file; more could not have an hour of it each.
_BYTES_A_STREAM = 32 * 2**10


class TrackInvalid(Exception):
    """The file is no intact track."""


class TrackUnavailable(Exception):
    """The file cannot be had: it is not there, belongs to someone else, or there is no room for it."""


def track_path(ring: Path) -> Path:
    """Return where the track of a ring is."""
    return ring.with_name(ring.name + ".track")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a track file holds and where."""

    owner: str  #: which recording it belongs to
    signals: dict[str, str]  #: name to unit
    slots: tuple[int, ...]  #: of each region
    history_seconds: float

    @property
    def slot_bytes(self) -> tuple[int, ...]:
        """Size of a slot, for each region."""
        count = len(self.signals)
        intervals = (INTERVAL_HEAD.size + 16 * count,) * len(LEVELS)
        return (_STREAM_SLOT_BYTES, ROW_HEAD.size + 4 * count, *intervals, _THUMBNAIL_SLOT_BYTES)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each region begins, and where the file ends."""
        places = [HEADER_BYTES]
        for slots, size in zip(self.slots, self.slot_bytes, strict=True):
            places.append(places[-1] + slots * size)
        return tuple(places)

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.offsets[-1]

    @property
    def row_type(self) -> np.dtype[np.void]:
        """A slot of the rows as numpy sees it."""
        return np.dtype(
            [
                ("crc", "<u4"), ("stream", "<u2"), ("status", "u1"), ("spare", "u1"), ("number", "<u8"),
                ("frame", "<u8"), ("time_ns", "<i8"), ("monotonic_ns", "<i8"), ("digest", "<u8"),
                ("top_class", "<i4"), ("spare2", "<u4"), ("values", "<f4", (len(self.signals),)),
            ]
        )  # fmt: skip

    @property
    def interval_type(self) -> np.dtype[np.void]:
        """A slot of the intervals as numpy sees it."""
        each = (len(self.signals),)
        return np.dtype(
            [
                ("crc", "<u4"), ("stream", "<u2"), ("seconds", "<u2"), ("frames", "<u4"), ("raised", "<u4"),
                ("number", "<u8"), ("first_frame", "<u8"), ("last_row", "<u8"), ("start_ns", "<i8"),
                ("time_ns", "<i8"), ("low", "<f4", each), ("mean", "<f4", each), ("high", "<f4", each),
                ("count", "<u4", each),
            ]
        )  # fmt: skip


def plan(size_bytes: int, owner: str, signals: dict[str, str], history_seconds: float) -> Layout:
    """Lay out a file of at most ``size_bytes``.

    Raises:
        ValueError: it is less than MIN_TRACK_BYTES or more than MAX_TRACK_BYTES.
    """
    if not MIN_TRACK_BYTES <= size_bytes <= MAX_TRACK_BYTES:
        raise ValueError(f"a track takes {MIN_TRACK_BYTES} to {MAX_TRACK_BYTES} bytes, not {size_bytes}")
    streams = max(4, min(2**16 - 1, size_bytes // _BYTES_A_STREAM))
    empty = Layout(owner, signals, (0,) * _REGIONS, history_seconds)
    left = size_bytes - HEADER_BYTES - streams * _STREAM_SLOT_BYTES
    slots = [streams] + [int(left * _SHARES[region]) // empty.slot_bytes[region] for region in range(1, _REGIONS)]
    return Layout(owner, signals, tuple(slots), history_seconds)


def pack_header(layout: Layout) -> bytes:
    """Return the header page."""
    text = json.dumps(
        {
            "owner": layout.owner,
            "signals": layout.signals,
            "slots": list(layout.slots),
            "history_seconds": layout.history_seconds,
        },
        separators=(",", ":"),
    ).encode()
    page = _FIXED.pack(_MAGIC, _VERSION, len(text), zlib.crc32(text)) + text
    if len(page) > HEADER_BYTES:
        raise ValueError("the header of a track does not fit its page")
    return page.ljust(HEADER_BYTES, b"\0")


def unpack_header(page: bytes, file_bytes: int) -> Layout:
    """Read a header page, and check it against the size of the file.

    Raises:
        TrackInvalid: it is no header this version writes, or the file has another size than it says.
    """
    if len(page) != HEADER_BYTES or not page.startswith(_MAGIC):
        raise TrackInvalid("the file is no track")
    _, version, length, crc = _FIXED.unpack_from(page)
    if version != _VERSION:
        raise TrackInvalid(f"the track has version {version} and this program reads {_VERSION}")
    text = page[_FIXED.size : _FIXED.size + length]
    if length > HEADER_BYTES - _FIXED.size or zlib.crc32(text) != crc:
        raise TrackInvalid("the header of the track is damaged")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrackInvalid("the header of the track is damaged") from error
    match content:
        case {"owner": str(owner), "signals": dict(signals), "slots": list(slots), "history_seconds": int() | float()}:
            stated = content["history_seconds"]
            history = float(stated) if 0 < stated <= 1e6 else 0.0  # what is beyond fits no float, perhaps
        case _:
            raise TrackInvalid("the header of the track lacks a part")
    named = all(_NAME.fullmatch(name) and isinstance(unit, str) and len(unit) < 64 for name, unit in signals.items())
    if not named or not 0 < len(signals) <= _MAX_SIGNALS:
        raise TrackInvalid("the header of the track names signals that cannot be")
    counted = all(isinstance(count, int) and 0 < count <= MAX_TRACK_BYTES for count in slots)
    if not counted or len(slots) != _REGIONS or not 0 < history <= 1e6:
        raise TrackInvalid("the header of the track states a geometry that cannot be")
    layout = Layout(owner, signals, tuple(slots), history)
    if layout.file_bytes != file_bytes or file_bytes > MAX_TRACK_BYTES:
        raise TrackInvalid("the track has another size than its header says")
    return layout


def seal_slot(body: bytes) -> bytes:
    """Return a slot whose first four bytes, zero so far, are the CRC-32 of the others."""
    return zlib.crc32(memoryview(body)[4:]).to_bytes(4, "little") + body[4:]


def slot_is_sound(slot: memoryview) -> bool:
    """Whether a slot was written to its end."""
    return zlib.crc32(slot[4:]) == int.from_bytes(slot[:4], "little")
