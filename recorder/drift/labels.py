"""Slices that frames' labels make: bounded, whatever the labels are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["Candidate", "candidates"]

Mask = npt.NDArray[np.bool_]

#: Labels looked at, the first ones.
MAX_KEYS = 32
#: Values of one label that are looked at, the most frequent ones; of numbers with more values, quarters.
MAX_VALUES = 32
#: All slices: each takes its share of the significance, so many more would find nothing any more.
MAX_SLICES = 256
#: A slice with fewer frames since the onset, or outside of which there are fewer, is not looked at.
MIN_FRAMES = 4
#: Numbers with at most so many different values are names, such as a class; with more, amounts.
MAX_NAMES = 12
#: Labels are shortened to this many characters.
MAX_TEXT = 100


@dataclass(frozen=True, slots=True)
class Candidate:
    """Frames that share a label's value.

    Attributes:
        key: the label.
        value: as text.
        also: "key=value" of labels that the very same frames share.
        members: (n) whether a frame is in the slice.
        known: (n) whether the frame has the label at all.
    """

    key: str
    value: str
    also: tuple[str, ...]
    members: Mask
    known: Mask


def candidates(labels: Mapping[str, Sequence[object]], since: Mask) -> list[Candidate]:
    """Return the slices that are large enough to be looked at.

    Args:
        labels: by key a value for each frame: text, truth or number; anything else, and None, is no value.
        since: (n) whether the frame is one since the onset: only these count for how large a slice is.
    """
    made: dict[tuple[bytes, bytes], Candidate] = {}
    for key, values in list(labels.items())[:MAX_KEYS]:
        for value, members, known in _slices(values, since):
            inside = int((members & since).sum())
            if inside < MIN_FRAMES or int((known & since).sum()) - inside < MIN_FRAMES:
                continue
            same = (np.packbits(members).tobytes(), np.packbits(known).tobytes())
            before = made.get(same)
            if before is None and len(made) < MAX_SLICES:
                made[same] = Candidate(key[:MAX_TEXT], value, (), members, known)
            elif before is not None and len(before.also) < MAX_KEYS:
                also = (*before.also, f"{key[:MAX_TEXT]}={value}")
                made[same] = Candidate(before.key, before.value, also, members, known)
    return list(made.values())


def _slices(values: Sequence[object], since: Mask) -> list[tuple[str, Mask, Mask]]:
    plain = [value if _is_plain(value) else None for value in values]
    known = np.array([value is not None for value in plain], bool)
    numbers = [value for value in plain if isinstance(value, int | float) and not isinstance(value, bool)]
    if numbers and len(numbers) == int(known.sum()) and len(set(numbers)) > MAX_NAMES:
        return _quarters(plain, known)
    texts = [None if value is None else _text(value) for value in plain]
    counted = Counter(
        text for text, is_since in zip(texts, since.tolist(), strict=True) if is_since and text is not None
    )
    listed = np.array(texts, dtype=object)
    return [(text, np.asarray(listed == text, bool), known) for text, _ in counted.most_common(MAX_VALUES)]


def _quarters(values: Sequence[object], known: Mask) -> list[tuple[str, Mask, Mask]]:
    """An amount, such as an exposure, in four parts with as many frames each."""
    amounts = np.array([float(value) if isinstance(value, int | float) else np.nan for value in values])
    edges = np.unique(np.nanquantile(amounts, [0, 0.25, 0.5, 0.75, 1]))
    parts = []
    for number, (low, high) in enumerate(pairwise(edges.tolist())):
        below = amounts <= high if number == len(edges) - 2 else amounts < high
        parts.append((f"{low:.4g} to {high:.4g}", known & (amounts >= low) & below, known))
    return parts


def _is_plain(value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) < 1e300 and not math.isnan(value)
    return isinstance(value, str | bool)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (f"{value:g}" if isinstance(value, float) else str(value))[:MAX_TEXT]
