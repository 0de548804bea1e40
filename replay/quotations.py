"""Texts that quote what was removed: messages name people, and so do streams."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from recorder.bundle.values import JsonValue
from recorder.privacy.scrub import REMOVED

__all__ = ["texts_of", "unquoted"]

#: Shorter texts stand in others by chance.
_QUOTED_CHARACTERS = 4


def texts_of(value: JsonValue) -> Iterator[str]:
    """Yield every text within a value, and numbers in the form they have in a text."""
    if isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def unquoted(value: JsonValue, quotes: Collection[str]) -> JsonValue:
    """Return a value with all quotations of some texts cut out of the texts in it."""
    if isinstance(value, str):
        for quote in sorted(quotes, key=len, reverse=True):
            if len(quote) >= _QUOTED_CHARACTERS:
                value = value.replace(quote, REMOVED)
        return value
    if isinstance(value, list):
        return [unquoted(item, quotes) for item in value]
    if isinstance(value, dict):
        return {key: unquoted(item, quotes) for key, item in value.items()}
    return value
