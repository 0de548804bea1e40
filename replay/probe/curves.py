"""A curve of a probe as path data, for the probes' own page and for the incident's."""

from __future__ import annotations

from replay.probe.finding import Curve

__all__ = ["drawn"]

#: Units of the drawing.
_WIDTH, _HEIGHT, _MARGIN = 320, 120, 8


def drawn(curve: Curve) -> dict[str, object]:
    """Return path data of the decisions kept, and of the confidence where there is one, with what it says in words."""
    low, high = (min(curve.at), max(curve.at)) if curve.at else (0.0, 1.0)
    span = (high - low) or 1.0

    def path(values: tuple[float | None, ...]) -> str:
        parts: list[str] = []
        for at, value in zip(curve.at, values, strict=True):
            if value is not None:
                x = _MARGIN + (at - low) / span * (_WIDTH - 2 * _MARGIN)
                y = _HEIGHT - _MARGIN - min(1.0, max(0.0, value)) * (_HEIGHT - 2 * _MARGIN)
                parts.append(f"{'L' if parts else 'M'}{x:.5g} {y:.5g}")
        return " ".join(parts)

    said = ", ".join(f"{kept:.0%} at {at:g}" for at, kept in zip(curve.at, curve.kept, strict=True))
    return {
        "name": curve.name,
        "unit": curve.unit,
        "low": f"{low:g}",
        "high": f"{high:g}",
        "kept": path(curve.kept),
        "confidence": path(curve.confidence),
        "said": said,
        "width": _WIDTH,
        "height": _HEIGHT,
    }
