"""Find the smallest set of factors that suffices: single ones, then delta debugging, then pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from replay.reduce import reduce_to_failing

__all__ = ["OutOfTime", "smallest_sets"]

Set = frozenset[str]

#: Pairs are all tried only where there are few: with more factors a set that cannot be made smaller has to do.
_MOST_PAIRS = 30


class OutOfTime(Exception):
    """The budget is spent. ``holding`` is the smallest set known to suffice."""

    def __init__(self, holding: Set | None) -> None:
        """Keep what is known."""
        super().__init__("the time for the search is spent")
        self.holding = holding


def smallest_sets(names: Sequence[str], holds: Callable[[Set], bool], spent: Callable[[], bool]) -> list[Set]:
    """Return the smallest sets of factors whose restoring alone gives the recorded bits, cheapest first.

    Every single factor is tried. Where none suffices, delta debugging (Zeller and Hildebrandt 2002, ddmin) takes
    factors away from all of them until none can be spared; what it finds is replaced by a pair if one suffices.

    Args:
        names: the factors, cheapest first.
        holds: whether a set suffices; asked once for each set.
        spent: whether the time is used up.

    Returns:
        ``[frozenset()]`` where nothing has to be restored, ``[]`` where not even all factors together suffice.

    Raises:
        OutOfTime: before the answer was certain.
    """
    known: dict[Set, bool] = {}

    def test(chosen: Set) -> bool:
        if chosen not in known:
            if spent():
                raise OutOfTime(min((each for each, good in known.items() if good), key=len, default=None))
            known[chosen] = holds(chosen)
        return known[chosen]

    everything = frozenset(names)
    if test(frozenset()):
        return [frozenset()]
    if not test(everything):
        return []
    singles = [frozenset({name}) for name in names]
    if found := [single for single in singles if test(single)]:
        return found
    reduced = frozenset(reduce_to_failing(names, lambda part: test(frozenset(part))))
    pairs = [frozenset(pair) for pair in combinations(names, 2)]
    if len(reduced) > 2 and len(pairs) <= _MOST_PAIRS and (found := [pair for pair in pairs if test(pair)]):
        return found
    return [reduced]
