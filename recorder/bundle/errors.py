"""What can be wrong with a bundle, each error carrying the sentence a reader of the command line gets."""

from __future__ import annotations

import unicodedata

__all__ = ["BundleError", "BundleInvalid", "BundleUnavailable", "PixelsDiffer"]

#: A sentence, not a page: names out of a hostile bundle may be megabytes long.
_MAX_MESSAGE_CHARACTERS = 400


class BundleError(Exception):
    """Base of the family. ``str(error)`` is one sentence: what is wrong and what to do next.

    The message may quote a bundle: control, bidirectional and zero-width characters in it become ``?``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message))


class BundleInvalid(BundleError):
    """Not an intact bundle this version may read: truncated, corrupt, hostile or of a newer major version."""


class BundleUnavailable(BundleError):
    """The bundle could not be reached: no such file, no permission, no connection."""


class PixelsDiffer(BundleError):
    """A stored JPEG or WebP file is intact, but this machine's decoder makes other pixels of it, or none."""


def _one_line(message: str) -> str:
    if len(message) > _MAX_MESSAGE_CHARACTERS:
        message = message[: _MAX_MESSAGE_CHARACTERS - 1] + "…"
    return "".join("?" if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in message)
