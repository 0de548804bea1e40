"""Strings that came out of a bundle, made safe to print."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]


def printable(text: object, limit_chars: int = 120) -> str:
    """Return text of one line without control, escape, bidirectional or invisible characters, cut to a length.

    A bundle's strings are claims of a stranger: in a terminal, an escape sequence could rewrite what replay says.
    """
    kept = "".join(
        " " if character in "\t\n\r" else character if unicodedata.category(character)[0] != "C" else "�"
        for character in str(text)[: limit_chars * 4].replace("\u2028", " ").replace("\u2029", " ")
    )
    kept = " ".join(kept.split())
    return kept if len(kept) <= limit_chars else kept[: limit_chars - 1] + "…"
