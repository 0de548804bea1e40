"""What can be wrong with a ring, each error carrying the sentence a reader gets."""

from __future__ import annotations

__all__ = ["RingError", "RingInvalid", "RingUnavailable"]


class RingError(Exception):
    """Base of the family. ``str(error)`` is one sentence: what is wrong and what to do next."""


class RingInvalid(RingError):
    """Not an intact ring file this version may read: foreign, forged, truncated or of another version."""


class RingUnavailable(RingError):
    """A ring could not be made or reached: no room, no permission, no such file, a ring already there."""
