"""The causes that can be named, and the unit in which each one's severity is told."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AMOUNTS", "CAUSES", "FITTED", "NONE", "UNKNOWN", "Amount"]

NONE, UNKNOWN = "none", "unknown"


@dataclass(frozen=True, slots=True)
class Amount:
    """How strong a cause is, in physical units.

    Attributes:
        unit: as it is written behind the number.
        levels: the amounts of severities 1 to 5.
    """

    unit: str
    levels: tuple[float, float, float, float, float]

    def at(self, severity: float) -> float:
        """Return the amount at a severity between 0.5 and 5.5, interpolated geometrically."""
        place = min(max(severity - 1, -0.5), 4.5)
        low = min(max(int(place), 0), 3)
        before, after = self.levels[low], self.levels[low + 1]
        return float(before * (after / before) ** (place - low))


#: What each severity means. Lengths are shares of the frame's width where the cause moves the camera (a shift of 14
#: pixels is nothing in 4K), and pixels of the recorded frame where it acts on pixels.
AMOUNTS: dict[str, Amount] = {
    "darker": Amount("stops", (0.5, 0.9, 1.4, 2.0, 2.8)),
    "brighter": Amount("stops", (0.4, 0.7, 1.1, 1.6, 2.3)),
    "low-contrast": Amount("of the contrast lost", (0.22, 0.36, 0.5, 0.64, 0.78)),
    "defocus": Amount("px radius", (1.0, 1.6, 2.5, 4.0, 6.0)),
    "motion-blur": Amount("px", (4.0, 7.0, 11.0, 16.0, 24.0)),
    "noise": Amount("sigma of full scale", (0.02, 0.035, 0.06, 0.09, 0.14)),
    "impulse-noise": Amount("of the pixels", (0.003, 0.01, 0.025, 0.05, 0.1)),
    "compression": Amount("JPEG quality", (36.0, 24.0, 15.0, 10.0, 6.0)),
    "low-resolution": Amount("times coarser", (1.7, 2.3, 3.1, 4.2, 6.0)),
    "fog": Amount("of the light scattered", (0.25, 0.4, 0.55, 0.68, 0.8)),
    "rain": Amount("of the pixels", (0.01, 0.02, 0.04, 0.07, 0.12)),
    "snow": Amount("of the pixels", (0.008, 0.016, 0.03, 0.055, 0.1)),
    "colour-cast": Amount("stops between channels", (0.2, 0.32, 0.5, 0.75, 1.1)),
    "camera-shift": Amount("of the width", (0.02, 0.035, 0.06, 0.1, 0.15)),
    "camera-rotation": Amount("degrees", (1.2, 2.2, 4.0, 7.0, 12.0)),
    "occlusion": Amount("of the area", (0.05, 0.09, 0.16, 0.26, 0.4)),
    "channel-order": Amount("", (1.0, 1.0, 1.0, 1.0, 1.0)),
}
#: Causes that are told by what their corruption does to clean frames; a frozen feed is told by a rule.
FITTED: tuple[str, ...] = tuple(AMOUNTS)
CAUSES: tuple[str, ...] = (NONE, UNKNOWN, *FITTED[:-1], "frozen-feed", "channel-order")
