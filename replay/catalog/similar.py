"""Have we seen this before? By signature, and by how alike the answers to the trigger frames are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.catalog.database import ALIKE_COSINE, Catalog
from replay.catalog.embedding import DIMENSIONS
from replay.catalog.entries import UNNAMED, Entry

__all__ = ["Similar", "has_been_seen", "similar_to"]

#: Incidents of the same signature that are looked at; the newest, since labels are on those.
_SAME_SIGNATURE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """An earlier incident, and in what it is alike."""

    entry: Entry
    same_signature: bool
    same_cause: bool | None  #: None where one of them names none
    cosine: float | None  #: of the vectors; None where they cannot be compared

    @property
    def score(self) -> float:
        """From 0 to 1: half for the signature, half for the vectors."""
        same = self.same_signature and self.same_cause is not False
        return 0.5 * same + 0.5 * max(0.0, self.cosine or 0.0)

    @property
    def is_the_same(self) -> bool:
        """Of the same signature and, where they can be compared, of the same cause and with an answer alike."""
        same = self.same_signature and self.same_cause is not False
        return same and (self.cosine is None or self.cosine >= ALIKE_COSINE)


def similar_to(catalog: Catalog, entry: Entry, limit: int = 10) -> list[Similar]:
    """The incidents most like this one, best first, itself left out; those that are the same before all others.

    Raises:
        CatalogInvalid: the catalogue cannot be read.
    """
    cosines: dict[int, float] = {}
    same = set(catalog.of_signature(entry.signature, _SAME_SIGNATURE)) if entry.signature else set()
    space = catalog.space(entry.vector[0]) if entry.vector is not None else None
    if entry.vector is not None and space is not None:
        matrix = catalog.vectors()
        measured = matrix[:, :DIMENSIONS] @ entry.vector[1]
        measured[matrix[:, DIMENSIONS] != np.float32(space)] = -2.0
        count = min(limit + 1, len(measured))
        nearest = np.argpartition(-measured, count - 1)[:count]
        wanted = {int(each) for each in nearest} | {number - 1 for number in same if number <= len(measured)}
        cosines = {each + 1: float(measured[each]) for each in wanted if measured[each] > -2.0}
    ids = sorted({number for number in cosines if cosines[number] > 0} | same)
    found = [
        Similar(
            entry=each,
            same_signature=number in same or each.signature == entry.signature,
            same_cause=None if each.cause in UNNAMED or entry.cause in UNNAMED else each.cause == entry.cause,
            cosine=cosines.get(number),
        )
        for number, each in catalog.numbered(ids)
        if each.bundle != entry.bundle
    ]
    found.sort(key=lambda each: (each.is_the_same, each.score, each.entry.opened_ns), reverse=True)
    return found[:limit]


def has_been_seen(found: list[Similar]) -> bool:
    """Whether one of them is the same."""
    return any(each.is_the_same for each in found)
