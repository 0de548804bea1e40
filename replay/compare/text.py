"""Text: is it the same reading? For answers that are strings, and for the tokens a decoder would take."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from difflib import SequenceMatcher

import numpy as np

from recorder.bundle.values import MappingValue, RecordValue, ScalarValue, SequenceValue, Value
from replay.compare.layout import Array

__all__ = ["changed_characters", "greedy_tokens", "same_text", "strings_of"]

#: Longer texts are compared in whole, but only so much of them is aligned to count what changed.
_ALIGNED_CHARS = 2000


def strings_of(value: Value | None, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(path, text)`` for every string of a value; paths are those of `recorder.bundle.values.tensors_of`."""
    match value:
        case ScalarValue(value=str() as text):
            yield path, text
        case SequenceValue(items=items):
            for index, item in enumerate(items):
                yield from strings_of(item, f"{path}[{index}]")
        case MappingValue(items=pairs):
            for key, item in pairs:
                yield from strings_of(item, f"{path}[{key!r}]")
        case RecordValue(fields=fields):
            for name, item in fields:
                yield from strings_of(item, f"{path}.{name}")


def same_text(a: str, b: str) -> bool:
    """Whether two texts read the same: canonically equivalent characters (Unicode NFC), whatever the white space."""
    return _normal(a) == _normal(b)


def changed_characters(a: str, b: str) -> int:
    """About how many characters were replaced, taken away or added."""
    x, y = _normal(a)[:_ALIGNED_CHARS], _normal(b)[:_ALIGNED_CHARS]
    steps = SequenceMatcher(None, x, y, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in steps if tag != "equal")


def greedy_tokens(scores: Array) -> Array:
    """The token (N, T) that a greedy decoder takes at each place of (N, T, V) scores; NaN never wins."""
    tokens: Array = np.argmax(np.where(np.isnan(scores), -np.inf, scores), axis=-1)
    return tokens


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
