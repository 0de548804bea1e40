"""The search for the smallest set, on made-up machines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.bisect.search import OutOfTime, smallest_sets

NAMES = [f"factor {number}" for number in range(8)]


def search(needed: set[str], names: list[str] = NAMES) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
    """Search where a set suffices when it holds all of what is needed; also return what was asked."""
    asked: list[frozenset[str]] = []

    def holds(chosen: frozenset[str]) -> bool:
        asked.append(chosen)
        return chosen >= needed

    return smallest_sets(names, holds, lambda: False), asked


@given(st.sets(st.sampled_from(NAMES)))
def test_what_is_needed_and_nothing_else_is_found_and_no_set_is_tried_twice(needed: set[str]) -> None:
    """Delta debugging, whatever the planted set."""
    found, asked = search(needed)
    assert found == [frozenset(needed)]
    assert len(asked) == len(set(asked))


def test_settings_that_do_not_matter_are_left_alone_at_once() -> None:
    """Nothing has to be restored: one look tells."""
    assert search(set()) == ([frozenset()], [frozenset()])


def test_what_no_setting_explains_has_no_set() -> None:
    """Not even all of them suffice."""
    assert search({"weights"}) == ([], [frozenset(), frozenset(NAMES)])


def test_several_single_explanations_are_all_named() -> None:
    """Either of two settings may do."""
    found = smallest_sets(NAMES, lambda chosen: bool(chosen & {NAMES[1], NAMES[5]}), lambda: False)
    assert found == [frozenset({NAMES[1]}), frozenset({NAMES[5]})]


@given(st.sets(st.sampled_from(NAMES), min_size=3), st.sets(st.sampled_from(NAMES), min_size=2, max_size=2))
def test_a_pair_is_preferred_to_a_larger_set_that_cannot_be_made_smaller(large: set[str], pair: set[str]) -> None:
    """Two different explanations: the shorter one is told."""
    found = smallest_sets(NAMES, lambda chosen: chosen >= large or chosen >= pair, lambda: False)
    assert {len(each) for each in found} == {2}


def test_when_the_time_is_up_the_smallest_set_known_is_told() -> None:
    """A partial answer is an answer."""
    asked: list[frozenset[str]] = []

    def holds(chosen: frozenset[str]) -> bool:
        asked.append(chosen)
        return chosen >= {NAMES[0], NAMES[7]}

    with pytest.raises(OutOfTime) as late:
        smallest_sets(NAMES, holds, lambda: len(asked) >= 4)
    assert late.value.holding == frozenset(NAMES)
