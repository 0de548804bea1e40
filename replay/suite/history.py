"""The last run of a suite, kept beside it: what fails now and did not then, and the other way round."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recorder.bundle.durable import durable_file
from replay.suite.document import is_case_name, ordinary_file
from replay.suite.running import STATUSES, CaseResult

__all__ = ["FILE", "Difference", "compare_runs", "keep_run", "last_run"]

#: Not for version control: it says what one machine saw last.
FILE = ".last-run.json"

_MAX_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Names of cases, sorted."""

    newly_failing: tuple[str, ...]  #: passed, and does not pass any more
    newly_passing: tuple[str, ...]
    new: tuple[str, ...]  #: was not there
    gone: tuple[str, ...]


def last_run(folder: Path) -> dict[str, str] | None:
    """The status of every case in the last run, by name; None where none is known (a damaged file counts as that)."""
    path = folder / FILE
    if not ordinary_file(path):
        return None
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError, AttributeError):
        with path.open("rb") as file:
            cases = json.loads(file.read(_MAX_BYTES))["cases"].items()
        return {name: status for name, status in cases if is_case_name(name) and status in STATUSES}
    return None


def keep_run(folder: Path, results: Sequence[CaseResult]) -> None:
    """Remember a run.

    Raises:
        OSError: the folder cannot be written.
    """
    statuses = {result.name: result.status for result in sorted(results, key=lambda result: result.name)}
    with durable_file(folder / FILE) as file:
        file.write(json.dumps({"cases": statuses}, indent=1).encode())


def compare_runs(then: dict[str, str], now: Sequence[CaseResult]) -> Difference:
    """Say what changed between two runs."""
    statuses = {result.name: result.status for result in now}
    both = sorted(then.keys() & statuses.keys())
    return Difference(
        newly_failing=tuple(name for name in both if then[name] == "pass" and statuses[name] != "pass"),
        newly_passing=tuple(name for name in both if then[name] != "pass" and statuses[name] == "pass"),
        new=tuple(sorted(statuses.keys() - then.keys())),
        gone=tuple(sorted(then.keys() - statuses.keys())),
    )
