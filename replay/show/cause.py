"""A diagnosis in words: the cause with its strength, what else it may be, and by which signals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from replay.show.text import Say

__all__ = ["cause_details", "cause_headline"]

_MOST_LISTED = 4


def cause_headline(cause: Mapping[str, Any] | None, say: Say) -> str:
    """Say it in one phrase: "darker, 1.4 stops, confidence 0.97".

    Args:
        cause: as it stands in a manifest, which may be anybody's.
        say: makes a string of the bundle safe to show.
    """
    if not cause:
        return "not diagnosed"
    evidence = cause.get("evidence")
    strength = ""
    if isinstance(evidence, Mapping) and (size := _number(evidence.get("severity"))) is not None:
        strength = f", {size:.3g} {say(evidence.get('unit') or '', 40)}".rstrip()
    sure = _number(cause.get("confidence"))
    return say(cause.get("cause") or "unknown", 40) + strength + ("" if sure is None else f", confidence {sure:.2f}")


def cause_details(cause: Mapping[str, Any] | None, say: Say) -> list[str]:
    """Say the ranking, the signals that are farthest from normal, and why nothing could be said."""
    if not cause:
        return []
    lines = []
    others = [
        f"{say(name, 40)} {chance:.2f}" for name, chance in _pairs(cause.get("ranking")) if name != cause.get("cause")
    ]
    if others:
        lines.append(f"else {', '.join(others[:_MOST_LISTED])}")
    evidence = cause.get("evidence")
    if isinstance(evidence, Mapping):
        signals = [f"{say(name, 40)} {sigmas:+.1f} sigma" for name, sigmas in _pairs(evidence.get("signals"))]
        if signals:
            lines.append(f"by {', '.join(signals[:_MOST_LISTED])}")
        pose = evidence.get("pose")
        if isinstance(pose, Mapping):
            moved = {name: _number(pose.get(name)) for name in ("right_px", "down_px", "degrees")}
            if all(value is not None for value in moved.values()):
                lines.append(
                    f"the scene stands {moved['right_px']:+.0f} px across, {moved['down_px']:+.0f} px down, turned by "
                    f"{moved['degrees']:+.1f}°"
                )
        if evidence.get("reason"):
            lines.append(say(evidence["reason"], 300))
    return lines


def _number(value: object) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None  # type: ignore[arg-type]  # mypy does not follow


def _pairs(value: object) -> list[tuple[str, float]]:
    """Names with numbers, as far as they are of that form."""
    found = []
    for each in value if isinstance(value, list | tuple) else ():
        match each:
            case [str() as name, number] if (plain := _number(number)) is not None:
                found.append((name, plain))
    return found
