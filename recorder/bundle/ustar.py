"""The tar around the members: one fixed kind of USTAR header, generated and never parsed.

A reader regenerates the header from the manifest and compares bytes, so no tar parser ever sees hostile input.
"""

from __future__ import annotations

__all__ = ["BLOCK_BYTES", "END_OF_ARCHIVE", "entry_bytes", "header", "padding"]

BLOCK_BYTES = 512

#: Two blocks of zeros.
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)

#: 1980-01-02 00:00 UTC for every member, so that equal contents give equal bytes. Not zero: zip cannot say anything
#: before 1980, in any time zone, and some tars warn of 1970.
MTIME_SECONDS = 315_619_200


def header(path: str, size_bytes: int) -> bytes:
    """Return the 512-byte header of a regular file.

    Args:
        path: ASCII, at most 100 characters.
        size_bytes: below 8 GiB.
    """
    fields = [
        path.encode("ascii").ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0",  # uid
        b"0000000\0",  # gid
        b"%011o\0" % size_bytes,
        b"%011o\0" % MTIME_SECONDS,
        b" " * 8,  # the checksum counts as spaces
        b"0",  # a regular file
        bytes(100),  # link name
        b"ustar\x0000",
        bytes(32 + 32),  # user and group name
        b"0000000\0" * 2,  # device
        bytes(155 + 12),  # prefix, filler
    ]
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size_bytes: int) -> bytes:
    """Return the zeros that fill a member's last block."""
    return bytes(-size_bytes % BLOCK_BYTES)


def entry_bytes(size_bytes: int) -> int:
    """Return the length of header, content and padding together."""
    return BLOCK_BYTES + size_bytes + -size_bytes % BLOCK_BYTES
