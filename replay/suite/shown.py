"""A run of a suite, as text and as JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from replay.show.terminal import print_line, print_wrapped, styled
from replay.show.text import inert
from replay.suite.document import Suite
from replay.suite.history import Difference
from replay.suite.running import CaseResult

__all__ = ["COLOURS", "print_run", "run_as_json"]

#: Of the statuses, in the order in which they are counted.
COLOURS = {"pass": "green", "fail": "red", "flaky": "yellow", "cannot-run": "yellow"}


def print_run(folder: str, results: Sequence[CaseResult], change: Difference | None) -> None:
    """Print the counts, every case with what is wrong with it, and what changed since the last run."""
    counts = Counter(result.status for result in results)
    said = ", ".join(f"{counts[status]} {status}" for status in COLOURS if counts[status]) or "no cases"
    worst = next((status for status in ("fail", "flaky", "cannot-run") if counts[status]), "pass")
    print_line(styled(said, fg=COLOURS[worst], bold=True) + (f" of {len(results)} cases" if results else ""))
    for result in results:
        print_line(f"  {styled(result.status, fg=COLOURS[result.status])}  {result.name}")
        for sentence in result.sentences:
            print_wrapped(sentence, indent="        ", first="      - ")
        if result.status in ("fail", "flaky"):
            print_line(f"      $ replay show {shlex.quote(str(Path(folder) / result.name))}.zst")
    for title, names in () if change is None else _changes(change):
        print_wrapped(f"{title}: {', '.join(names)}", indent="    ", first="")


def _changes(change: Difference) -> list[tuple[str, tuple[str, ...]]]:
    named = [
        ("newly failing", change.newly_failing),
        ("newly passing", change.newly_passing),
        ("new", change.new),
        ("gone", change.gone),
    ]
    return [(title, names) for title, names in named if names] or [("since the last run", ("nothing changed",))]


def run_as_json(suite: Suite, results: Sequence[CaseResult], change: Difference | None, code: int) -> dict[str, Any]:
    """The same as one JSON object."""
    counts = Counter(result.status for result in results)
    return {
        "suite": str(suite.folder),
        "passed": code == 0,
        "counts": {status: counts[status] for status in COLOURS},
        "cases": [
            {
                "case": result.name,
                "status": result.status,
                "seconds": round(result.seconds, 3),
                "reason": inert(result.reason, 600),
                "findings": [
                    {
                        "holds": each.holds,
                        "expected": inert(each.expected, 300),
                        "got": inert(each.got, 300),
                        "evidence": inert(each.evidence, 600),
                    }
                    for each in result.findings
                ],
            }
            for result in results
        ],
        "since_last_run": None if change is None else asdict(change),
    }
