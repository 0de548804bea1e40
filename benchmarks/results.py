"""What a benchmark found: tables and curves, and how they become Markdown and SVG."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Bars", "Curve", "Section", "Table", "median", "quantile"]


@dataclass(frozen=True)
class Table:
    """Rows of text under column names."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return a Markdown table."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True)
class Bars:
    """Named numbers on a logarithmic scale."""

    name: str  #: of the file, without suffix
    title: str
    values: Sequence[tuple[str, float]]

    def svg(self) -> str:
        """Return a picture of horizontal bars, each with its number; 1 stands at a fifth of the width."""
        import math

        row, left, width = 22, 230, 470
        low, high = 0.2, max(10.0, *(value for _, value in self.values)) * 1.5
        scale = width / math.log(high / low)
        height = 40 + row * len(self.values)
        one = left + scale * math.log(1 / low)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="100%" height="100%" fill="white"/><text x="10" y="18">{escape(self.title)}</text>',
            f'<line x1="{one:.0f}" x2="{one:.0f}" y1="26" y2="{height}" stroke="#999" stroke-dasharray="3"/>',
        ]
        for index, (name, value) in enumerate(self.values):
            top, end = 30 + row * index, scale * math.log(max(value, low * 1.05) / low)
            parts.append(f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{left}" y="{top}" width="{end:.0f}" height="16" fill="#4878a8"/>')
            parts.append(f'<text x="{left + end + 6:.0f}" y="{top + 13}">{value:.3g}</text>')
        return "\n".join([*parts, "</svg>\n"])


@dataclass(frozen=True)
class Curve:
    """One number over another."""

    name: str
    title: str
    points: Sequence[tuple[float, float]]

    def svg(self) -> str:
        """Return a picture of a line; both axes begin at 0 and are labelled at their end."""
        left, width, height = 60, 620, 220
        most_x = max(x for x, _ in self.points) or 1.0
        most_y = (max(y for _, y in self.points) or 1.0) * 1.1
        places = " ".join(
            f"{left + x / most_x * width:.1f},{30 + (1 - y / most_y) * height:.1f}" for x, y in self.points
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height + 60}" '
                'font-family="sans-serif" font-size="12">',
                f'<rect width="100%" height="100%" fill="white"/><text x="10" y="18">{escape(self.title)}</text>',
                f'<path d="M{left} 30V{30 + height}H{left + width}" fill="none" stroke="#999"/>',
                f'<text x="{left - 6}" y="42" text-anchor="end">{most_y:.3g}</text>',
                f'<text x="{left + width}" y="{height + 48}" text-anchor="end">{most_x:,.0f}</text>',
                f'<polyline points="{places}" fill="none" stroke="#4878a8" stroke-width="2"/>',
                "</svg>\n",
            ]
        )


@dataclass(frozen=True)
class Section:
    """One question and its answer."""

    title: str
    text: str
    table: Table
    pictures: Sequence[Bars | Curve] = field(default_factory=tuple)

    def markdown(self) -> str:
        """Return it as Markdown; pictures lie beside the page."""
        pictures = "".join(f"\n\n![{picture.title}]({picture.name}.svg)" for picture in self.pictures)
        return f"## {self.title}\n\n{self.text}\n\n{self.table.markdown()}{pictures}\n"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def quantile(values: Sequence[float], percent: int) -> float:
    """The value that so many per cent stay below."""
    return statistics.quantiles(values, n=100)[percent - 1]
