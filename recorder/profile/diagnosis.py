"""What a profile says of some frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recorder.cause.model import NAMED_FROM, Finding
from recorder.cause.vocabulary import AMOUNTS, NONE, UNKNOWN

__all__ = ["Diagnosis"]

#: Signals named as evidence.
_SIGNALS = 5
#: Probabilities below this are not worth a line.
_LEAST = 0.005


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A named cause.

    Attributes:
        cause: one of `recorder.cause.vocabulary.CAUSES`.
        confidence: probability that it is this one, calibrated on windows the profile's fit left out.
        ranking: every cause that is likely at all, most likely first, with its probability.
        evidence: ``severity`` and ``unit`` where the cause has any, ``pose`` of a fixed camera, ``signals`` that are
            farthest from the reference with the number of spreads, ``windows`` and ``frames`` that were looked at, and
            ``reason`` where nothing could be said.
    """

    cause: str
    confidence: float
    ranking: tuple[tuple[str, float], ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON-able data, as it stands in a manifest."""
        return {
            "cause": self.cause,
            "confidence": round(self.confidence, 4),
            "ranking": [[name, round(chance, 4)] for name, chance in self.ranking],
            "evidence": self.evidence,
        }

    @property
    def sentence(self) -> str:
        """One line for people."""
        if "reason" in self.evidence:
            return f"{self.cause}: {self.evidence['reason']}"
        size = self.evidence.get("severity")
        strong = f", {size:.3g} {self.evidence.get('unit', '')}".rstrip() if size is not None else ""
        return f"{self.cause}{strong} (confidence {self.confidence:.2f})"

    @classmethod
    def unknown(cls, reason: str) -> Diagnosis:
        """Return that nothing can be said, and why."""
        return cls(UNKNOWN, 0.0, (), {"reason": reason})

    @classmethod
    def of(cls, finding: Finding, width: int) -> Diagnosis:
        """Say what was found.

        Args:
            finding: of an incident's windows.
            width: of the frames, by which a shift becomes pixels.
        """
        chances, cause = finding.probabilities, finding.cause
        confidence = chances.get(cause, 0.0)
        if cause == UNKNOWN:  # also what is like nothing that has a name, or like two of them
            confidence = max(confidence, NAMED_FROM if finding.is_strange else 0.0, 1 - max(chances.values()))
        ranking = sorted(
            ((name, chance) for name, chance in chances.items() if chance >= _LEAST), key=lambda each: -each[1]
        )
        return cls(cause, min(1.0, confidence), tuple(ranking), _evidence(finding, width))


def _evidence(finding: Finding, width: int) -> dict[str, Any]:
    cause, amount, pose = finding.cause, finding.amount, finding.pose
    found: dict[str, Any] = {"windows": finding.windows, "windows_agreeing": finding.agreeing}
    if pose is not None and pose.fit > 0:
        found["pose"] = {
            "right_px": round(pose.right * width, 1),
            "down_px": round(pose.down * width, 1),
            "degrees": round(pose.degrees, 1),
            "fit": round(pose.fit, 2),
        }
    if amount is not None:
        found["severity"], found["unit"] = float(f"{amount:.3g}"), AMOUNTS[cause].unit
        if cause == "camera-shift":
            size = pose.shift if pose is not None and pose.fit > 0 else amount
            found["severity"], found["unit"] = round(size * width, 1), "px"
        if cause == "camera-rotation" and pose is not None and pose.fit > 0:
            found["severity"] = round(abs(pose.degrees), 1)
    if cause != NONE:
        farthest = sorted(finding.sigmas.items(), key=lambda each: -abs(each[1]))[:_SIGNALS]
        found["signals"] = [[name, float(f"{value:.3g}")] for name, value in farthest]
    return found
