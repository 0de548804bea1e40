"""Delta debugging leaves a part that fails and from which nothing can be taken away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from replay.reduce import reduce_to_failing


@given(st.integers(0, 40), st.data())
def test_what_is_needed_is_what_is_left(count: int, data: st.DataObject) -> None:
    things = list(range(count))
    needed = set(data.draw(st.lists(st.sampled_from(things), unique=True))) if things else set()
    asked: list[tuple[int, ...]] = []

    def fails(part: object) -> bool:
        asked.append(tuple(part))  # type: ignore[arg-type]
        return needed <= set(asked[-1])

    assert reduce_to_failing(things, fails) == sorted(needed)
    assert len(asked) == len(set(asked))  # no part twice


@given(st.integers(1, 12), st.integers(0, 2**12))
def test_any_failure_is_reduced_to_a_part_that_cannot_lose_one_more(count: int, seed: int) -> None:
    things = list(range(count))

    def fails(part: object) -> bool:
        chosen = frozenset(part)  # type: ignore[call-overload]
        return chosen == frozenset(things) or hash((seed, tuple(sorted(chosen)))) % 3 == 0

    left = reduce_to_failing(things, fails)
    assert fails(left)
    assert not left or not any(fails([thing for thing in left if thing != each]) for each in left)
