"""What an incident took is given back: a resident process must not stay as large as its largest window."""

from __future__ import annotations

import ctypes
from contextlib import suppress

__all__ = ["give_back"]


def give_back() -> None:
    """Return freed memory to the kernel, where the C library can (glibc); it keeps it for itself otherwise.

    Encoding leaves holes between what lives on: 92 MB were seen after a campaign, of which half was free. It takes
    some milliseconds, once an incident.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
