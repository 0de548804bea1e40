"""What a profile says of some frames."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from recorder.cause.model import Finding
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
    def of(cls, findings: list[Finding], width: int) -> Diagnosis:
        """Put together what windows say; the last ones are nearest to the incident, all count alike.

        Args:
            findings: of one or more windows.
            width: of the frames, by which a shift becomes pixels.
        """
        sums: dict[str, float] = {}
        for finding in findings:
            for name, chance in finding.probabilities.items():
                sums[name] = sums.get(name, 0.0) + chance / len(findings)
        votes = {name: sum(each.cause == name for each in findings) for name in {each.cause for each in findings}}
        cause = max(votes, key=lambda name: (votes[name], sums.get(name, 0.0)))
        confidence = sums.get(cause, 0.0)
        if cause == UNKNOWN:  # also what is like nothing that has a name, or like two of them
            strange = sum(finding.is_strange for finding in findings) / len(findings)
            confidence = max(confidence, strange, 1 - max(sums.values()))
        telling = [finding for finding in findings if finding.cause == cause]
        ranking = sorted(
            ((name, chance) for name, chance in sums.items() if chance >= _LEAST), key=lambda each: -each[1]
        )
        return cls(cause, min(1.0, confidence), tuple(ranking), _evidence(cause, telling, width, len(findings)))


def _evidence(cause: str, telling: list[Finding], width: int, windows: int) -> dict[str, Any]:
    first = telling[0]
    found: dict[str, Any] = {"windows": windows, "windows_agreeing": len(telling)}
    amounts = [each.amount for each in telling if each.amount is not None]
    pose = first.pose
    if pose is not None and pose.fit > 0:
        found["pose"] = {
            "right_px": round(pose.right * width, 1),
            "down_px": round(pose.down * width, 1),
            "degrees": round(pose.degrees, 1),
            "fit": round(pose.fit, 2),
        }
    if amounts:
        amount = math.exp(sum(math.log(each) for each in amounts) / len(amounts))
        found["severity"], found["unit"] = float(f"{amount:.3g}"), AMOUNTS[cause].unit
        if cause == "camera-shift":
            size = pose.shift if pose is not None and pose.fit > 0 else amount
            found["severity"], found["unit"] = round(size * width, 1), "px"
        if cause == "camera-rotation" and pose is not None and pose.fit > 0:
            found["severity"] = round(abs(pose.degrees), 1)
    if cause != NONE:
        farthest = sorted(first.sigmas.items(), key=lambda each: -abs(each[1]))[:_SIGNALS]
        found["signals"] = [[name, float(f"{value:.3g}")] for name, value in farthest]
    return found
