"""A bisection as the contract's list of findings, and as sentences."""

from __future__ import annotations

from typing import Any

from replay.bisect.bisection import Bisection, Outcome
from replay.bisect.cells import Cell

__all__ = ["cell_to_json", "conclusion", "exit_code", "findings"]

_EXIT_CODES = {
    Outcome.NOTHING_MATTERS: 0,
    Outcome.EXPLAINED: 0,
    Outcome.UNEXPLAINED: 1,
    Outcome.INCONCLUSIVE: 3,
    Outcome.NOT_REPLAYABLE: 3,
    Outcome.NONDETERMINISTIC: 5,
}


def exit_code(found: Bisection) -> int:
    """0 explained or nothing to explain · 1 no setting explains it · 3 inconclusive or not replayable · 5 no two runs
    agree."""
    return _EXIT_CODES[found.outcome]


def conclusion(found: Bisection) -> str:
    """One sentence."""
    if found.outcome is Outcome.NOTHING_MATTERS:
        return "no setting matters: the settings as they are here give the recorded bits"
    if found.outcome is not Outcome.EXPLAINED:
        return f"{found.outcome.value}: {found.reason}"
    shown = [" and ".join(sorted(each)) for each in found.explanations]
    text = f"{shown[0]}: restoring only this gives the recorded bits"
    if " and " in shown[0]:
        text = f"{shown[0]}: restoring these, and not fewer of them, gives the recorded bits"
    if len(shown) > 1:
        text += f"; so does, by itself, {' or '.join(shown[1:])}"
    if found.overdetermined:
        text += "; all other settings together give them too"
    return f"{text}; {found.reason}" if found.reason else text


def findings(found: Bisection) -> list[dict[str, Any]]:
    """The whole bisection, then one finding for each factor: it passes where it takes no part in the explanation."""
    needed = frozenset().union(*found.explanations) if found.explanations else frozenset()
    alone = {next(iter(cell.restored)): cell for cell in found.cells if len(cell.restored) == 1}
    whole = {
        "name": "explained",
        "passed": exit_code(found) == 0,
        "evidence": {
            "outcome": found.outcome.value,
            "conclusion": conclusion(found),
            "settings": sorted(found.explanations[0]) if found.explanations else [],
            "alternatives": [sorted(each) for each in found.explanations[1:]],
            "calls": found.calls,
            "not_restored": list(found.not_restored),
            "without": cell_to_json(found.without) if found.without else None,
            "cells": [cell_to_json(cell) for cell in found.cells],
        },
    }
    rows = [whole]
    for factor in found.factors:
        evidence: dict[str, Any] = {"recorded": factor.recorded, "here": factor.here}
        if factor.name in alone:
            evidence["alone"] = cell_to_json(alone[factor.name])
        rows.append({"name": factor.name, "passed": factor.name not in needed, "evidence": evidence})
    rows += [{"name": name, "passed": True, "evidence": {"skipped": why}} for name, why in found.skipped.items()]
    return rows


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """One tried combination: what was restored, and how far from the recorded bits the answers were."""
    return {
        "restored": sorted(cell.restored),
        "bit_exact": cell.holds,
        "calls": cell.calls,
        "calls_bit_exact": cell.exact,
        "changed_decisions": cell.changed_decisions,
        "max_abs": cell.max_abs,
        "rel_l2": cell.rel_l2,
        "margin_over_delta": cell.margin_over_delta,
        "failed": cell.failed or None,
    }
