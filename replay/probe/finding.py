"""What a probe found: one test, its threshold, what it proves and what it does not, and the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from recorder.bundle.values import JsonValue

__all__ = ["Curve", "Finding", "Shown", "to_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture that is evidence."""

    caption: str
    pixels: NDArray[Any]  #: HW or HWC, uint8


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How much of the answers stays as something grows."""

    name: str
    unit: str
    at: tuple[float, ...]  #: amounts, ascending
    kept: tuple[float, ...]  #: share of frames whose decision stayed, 0 to 1
    confidence: tuple[float | None, ...]  #: mean over the frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one probe."""

    name: str
    passed: bool | None  #: None: it could not be decided; the sentence says why
    sentence: str
    threshold: str = ""  #: what it was held against, in words
    proves: str = ""
    limits: str = ""  #: what it does not prove
    evidence: dict[str, JsonValue] = field(default_factory=dict)
    pictures: tuple[Shown, ...] = ()
    curves: tuple[Curve, ...] = ()


def to_json(finding: Finding) -> dict[str, Any]:
    """The finding for others to read; pictures are on the page only."""
    curves = [
        {"name": each.name, "unit": each.unit, "at": each.at, "kept": each.kept, "confidence": each.confidence}
        for each in finding.curves
    ]
    return {
        "name": finding.name,
        "passed": finding.passed,
        "sentence": finding.sentence,
        "threshold": finding.threshold,
        "proves": finding.proves,
        "does_not_prove": finding.limits,
        "evidence": finding.evidence | ({"curves": curves} if curves else {}),
    }
