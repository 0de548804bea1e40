"""The summary as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from replay.fleet.candidate import OUTCOMES
from replay.fleet.results import headline
from replay.show.static_page import render

__all__ = ["page"]

_MAX_ROWS = 2_000


def page(results: Mapping[str, Mapping[str, Any]], key: str) -> str:
    """Return the page of a run's results, the worst outcomes first."""
    counts = Counter(str(each["outcome"]) for each in results.values())
    rows = sorted(results.items(), key=lambda item: (OUTCOMES.index(item[1]["outcome"]), item[0]))
    return render(
        "replay.fleet",
        headline=headline(results),
        key=key,
        total=len(results),
        counts=[(name, counts[name]) for name in OUTCOMES if counts[name]],
        rows=[(location, {"cause": None, "frames": {}, **each}) for location, each in rows[:_MAX_ROWS]],
        left_out=max(0, len(rows) - _MAX_ROWS),
    )
