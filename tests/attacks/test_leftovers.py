"""What a dead process left, damaged: refused in a sentence, or passed over and counted; never a bundle that lies."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from recorder.bundle.limits import MIB
from tests.attacks.guarded import ROOT
from tests.attacks.leftover_mutations import BATCH


def campaign(seed: int, count: int) -> dict[str, int]:
    """Run one in a process of its own, so that its memory is told; return the outcomes."""
    command = [sys.executable, "-m", "tests.attacks.leftover_mutations", "--seed", str(seed), "--count", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["mutations"] == count
    assert said["grown_bytes"] < 64 * MIB
    outcomes: dict[str, int] = said["outcomes"]
    return outcomes


def test_damaged_rings_tracks_and_reports_are_refused_or_passed_over() -> None:
    """By the sealer that follows, the one that takes over, and `replay recover`."""
    outcomes = campaign(0, BATCH)
    assert {name.partition(":")[0] for name in outcomes} == {".ring", ".track", ".progress", ".status"}
    assert outcomes[".ring: refused"] and outcomes[".ring: records left out"]


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_a_hundred_thousand_damaged_leftovers(part: int) -> None:
    """Ten thousand in each of ten parts."""
    outcomes = campaign(10_000 * (part + 1), 10_000)
    print(f"part {part}: {outcomes}")
