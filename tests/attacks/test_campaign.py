"""Damage by chance: ten batches in every run, a million mutations on request."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.attacks.mutations import BATCH, run_batch


@pytest.mark.parametrize("seed", range(10))
def test_five_thousand_mutations_are_refused_or_change_nothing(seed: int) -> None:
    """Of the file as it lies, and of manifest and members with everything around made to agree."""
    outcomes = run_batch(seed)
    assert outcomes.total() == BATCH
    assert outcomes["raw refused"] > outcomes["raw same content"]


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
def test_a_million_mutations(part: int) -> None:
    """Fifty thousand in each of twenty parts, so that one can be run alone."""
    outcomes = Counter[str]()
    for seed in range(1000 + part * 100, 1100 + part * 100):
        outcomes += run_batch(seed)
    print(f"part {part}: {outcomes.total():,} mutations: {dict(sorted(outcomes.items()))}")
    assert outcomes.total() == 50_000
