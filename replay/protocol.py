"""How replay and its worker talk: length-prefixed msgpack headers, each with a payload of raw bytes behind it.

    u32 header length | u64 payload length | header (msgpack map) | payload

Neither side trusts the other's lengths: both are capped before anything is allocated.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

__all__ = ["MAX_HEADER_BYTES", "MAX_PAYLOAD_BYTES", "ProtocolError", "Wire", "read_message", "write_message"]

_PREFIX = struct.Struct("<IQ")

#: Structure only: a manifest's deepest call is far below this.
MAX_HEADER_BYTES = 16 * 2**20
#: One call's arguments or answer; larger ones are refused with a sentence before they get here.
MAX_PAYLOAD_BYTES = 4 * 2**30

Wire = tuple[dict[str, Any], bytearray]


class ProtocolError(Exception):
    """The other side sent something that is not a message."""


def write_message(fd: int, header: dict[str, Any], parts: Sequence[bytes | bytearray | memoryview] = ()) -> None:
    """Send one message, blocking until the other side took all of it.

    Raises:
        OSError: the other side is gone.
    """
    packed = msgpack.packb(header, use_bin_type=True)
    pieces = [memoryview(part).cast("B") for part in parts if len(part)]
    prefix = _PREFIX.pack(len(packed), sum(piece.nbytes for piece in pieces))
    for piece in (memoryview(prefix + packed), *pieces):
        sent = 0
        while sent < piece.nbytes:
            sent += os.write(fd, piece[sent:])


def read_message(
    fd: int, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES, wait: Callable[[], None] | None = None
) -> Wire | None:
    """Receive one message; None where the other side has closed.

    Args:
        fd: the pipe.
        max_payload_bytes: a longer payload is refused before it is read.
        wait: called before each read; may raise to give up.

    Raises:
        ProtocolError: what came is not a message, too long, or cut off.
    """
    prefix = _read_exactly(fd, _PREFIX.size, wait, may_end=True)
    if prefix is None:
        return None
    header_bytes, payload_bytes = _PREFIX.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > max_payload_bytes:
        raise ProtocolError(f"a message of {header_bytes + payload_bytes} bytes is more than was agreed on")
    packed = _read_exactly(fd, header_bytes, wait)
    payload = _read_exactly(fd, payload_bytes, wait)
    try:
        # unpackb caps every string, array and map by the length of what it was given
        header = msgpack.unpackb(packed, raw=False, strict_map_key=True, ext_hook=_no_extensions)
    except Exception as error:  # msgpack raises ValueError, its own kinds, UnicodeDecodeError, RecursionError
        raise ProtocolError("a message that cannot be unpacked") from error
    if not isinstance(header, dict) or packed is None or payload is None:
        raise ProtocolError("a message without a header")
    return header, payload


def _read_exactly(fd: int, size: int, wait: Callable[[], None] | None, may_end: bool = False) -> bytearray | None:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        if wait is not None:
            wait()
        count = os.readv(fd, [view[filled:]])
        if count == 0:
            if may_end and filled == 0:
                return None
            raise ProtocolError("a message that was cut off")
        filled += count
    return data


def _no_extensions(code: int, _data: bytes) -> Any:
    raise ValueError(f"msgpack extension {code}")
