"""Delta debugging: a small part of some things that still fails. Pure.

Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2), 2002 (ddmin).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

__all__ = ["reduce_to_failing"]

Thing = TypeVar("Thing")


def reduce_to_failing(things: Sequence[Thing], fails: Callable[[Sequence[Thing]], bool]) -> list[Thing]:
    """Return a part of ``things``, in order, that fails and from which no single thing can be taken away.

    ``fails`` is asked at most once for each part. The whole is taken to fail; nothing at all is tried first.

    Args:
        things: distinct and hashable.
        fails: whether a part still shows the failure.
    """
    asked: dict[tuple[Thing, ...], bool] = {}

    def still(part: Sequence[Thing]) -> bool:
        key = tuple(part)
        if key not in asked:
            asked[key] = fails(part)
        return asked[key]

    kept = list(things)
    if not kept or still([]):
        return []
    pieces = 2
    while len(kept) >= 2:
        bounds = [round(index * len(kept) / pieces) for index in range(pieces + 1)]
        chunks = [kept[a:b] for a, b in pairwise(bounds)]
        smaller = next((chunk for chunk in chunks if still(chunk)), None)
        if smaller is not None:
            kept, pieces = smaller, 2
            continue
        rest = (kept[:a] + kept[b:] for a, b in pairwise(bounds))
        without = next((part for part in rest if still(part)), None) if pieces > 2 else None
        if without is not None:
            kept, pieces = without, max(pieces - 1, 2)
        elif pieces < len(kept):
            pieces = min(len(kept), 2 * pieces)
        else:
            break
    return kept
