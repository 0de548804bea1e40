"""The coverage-guided fuzzer finds nothing: a little of it in every run, hours on request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.fuzz import fuzz
from tests.attacks.guarded import ROOT
from tests.attacks.targets import TARGETS

#: Of the soak, for each target.
SOAK_SECONDS = int(os.environ.get("FUZZ_SECONDS", "600"))
#: Those whose parsers had faults before; the others' honest and damaged files are in the campaigns.
EVERY_RUN = ("manifest", "worker", "records")


@pytest.mark.parametrize("target", TARGETS)
def test_honest_files_pass_every_target(target: str) -> None:
    """So that the fuzzer begins where the parsers are, and not at their first line."""
    seeds = TARGETS[target].seeds()
    assert seeds
    for seed in seeds:
        TARGETS[target](seed)


@pytest.mark.parametrize("target", EVERY_RUN)
def test_a_little_fuzzing_finds_no_crash(target: str, tmp_path: Path) -> None:
    """From the honest files, led by what the code does with them."""
    campaign = fuzz(target, tmp_path, seconds=60, runs=200)
    assert not campaign.crash, campaign.crash
    assert campaign.runs > 100 and campaign.covered > 0


def test_a_crash_is_told_with_the_input_that_makes_it(tmp_path: Path) -> None:
    """A fuzzer that hides what it finds would look like one that finds nothing."""
    program = (
        "import tests.attacks.targets as t\n"
        "t.TARGETS['status'] = t.Target(lambda data: 1 / (len(data) != 61), lambda: [b'x' * 61])\n"
        "from tests.attacks.fuzz import _run\nfrom pathlib import Path\n"
        f"_run('status', Path({str(tmp_path)!r}), ['-runs=50'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS)
def test_long_fuzzing_finds_no_crash(target: str, tmp_path: Path) -> None:
    """Ten minutes for each target, or as long as FUZZ_SECONDS says."""
    campaign = fuzz(target, tmp_path, seconds=SOAK_SECONDS)
    print(f"{target}: {campaign.runs:,} runs, {campaign.covered} edges")
    assert not campaign.crash, campaign.crash
