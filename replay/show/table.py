"""Sections as text of 80 columns, or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from replay.show.story import Section
from replay.show.terminal import COLUMNS, print_heading, print_line, print_wrapped, styled
from replay.show.text import cells, fit

__all__ = ["markdown", "print_facts", "print_section", "print_table"]

_GAP = "  "
_NARROWEST = 6


def print_section(section: Section) -> None:
    """Print one section on stdout."""
    print_heading(section.title)
    for sentence in section.sentences:
        print_wrapped(sentence, indent="    ", first="  ")
    print_table(section.header, section.rows)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of safe strings in columns: empty columns are left out, the widest are cut until a row fits."""
    if not rows:
        return
    if not any(header) and len(header) == 2:
        print_facts(rows)
        return
    kept = [column for column in range(len(header)) if any(row[column] for row in rows)]
    lines = [[row[column] for column in kept] for row in (header, *rows)]
    widths = [max(cells(line[column]) for line in lines) for column in range(len(kept))]
    while sum(widths) + len(_GAP) * len(widths) > COLUMNS and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    for number, line in enumerate(lines):
        text = _GAP + _GAP.join(fit(cell, width) for cell, width in zip(line, widths, strict=True))
        print_line(styled(text.rstrip(), dim=True) if number == 0 else text.rstrip())


def print_facts(rows: Sequence[Sequence[str]]) -> None:
    """Print names and values; long values are folded under themselves."""
    width = max(cells(row[0]) for row in rows)
    for name, value in rows:
        print_wrapped(value, indent=" " * (width + 2 * len(_GAP)), first=f"{_GAP}{fit(name, width)}{_GAP}")


def markdown(title: str, summary: str, sections: Sequence[Section]) -> str:
    """Return sections as a Markdown document. Strings of the bundle stand in code spans already."""
    parts = [f"# {title}", summary]
    for section in sections:
        parts.append(f"## {section.title}")
        if section.sentences:
            parts.append("\n".join(f"- {sentence}" for sentence in section.sentences))
        if section.rows:
            lines = [section.header, ["---"] * len(section.header), *section.rows]
            parts.append("\n".join("| " + " | ".join(cell.replace("|", "¦") for cell in line) + " |" for line in lines))
    return "\n\n".join(parts)
