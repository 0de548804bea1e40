"""Which frames are meant: conditions on their metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from recorder.bundle.values import JsonValue
from recorder.privacy import PrivacyKey

__all__ = ["Where", "values_at"]


@dataclass(frozen=True, slots=True)
class Where:
    """Which frames are meant: those that meet every condition.

    Attributes:
        conditions: by key, dots lead into dictionaries, the text that the value must have.
        key: under which values may stand as pseudonyms.
    """

    conditions: Mapping[str, str]
    key: PrivacyKey | None = None

    def matches(self, metadata: Mapping[str, JsonValue]) -> bool:
        """Whether a frame of that metadata is meant; of a list, one element is enough."""
        return all(
            any(self._is(value, text) for value in values_at(metadata, path)) for path, text in self.conditions.items()
        )

    def quotes(self) -> set[str]:
        """Return the texts that must not be left anywhere."""
        pseudonyms = [] if self.key is None else [self.key.pseudonym(text) for text in self.conditions.values()]
        return {*self.conditions.values(), *pseudonyms}

    def _is(self, value: JsonValue, text: str) -> bool:
        if isinstance(value, list):
            return any(self._is(item, text) for item in value)
        if isinstance(value, str):
            return value == text or (self.key is not None and value == self.key.pseudonym(text))
        with suppress(ValueError, RecursionError):
            wanted = json.loads(text)
            return type(wanted) is type(value) and wanted == value
        return False


def values_at(metadata: Mapping[str, JsonValue], path: str) -> Iterator[JsonValue]:
    """Yield what stands under a key, dots in it taken as steps or as part of the key."""
    if path in metadata:
        yield metadata[path]
    head, dot, rest = path.partition(".")
    while dot:
        inner = metadata.get(head)
        if isinstance(inner, dict):
            yield from values_at(inner, rest)
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
