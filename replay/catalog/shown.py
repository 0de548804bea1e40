"""Incidents of the catalogue, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from replay.show.terminal import print_line, print_wrapped, styled
from replay.show.text import inert, iso, utc

if TYPE_CHECKING:
    from replay.catalog.entries import Entry

__all__ = ["entry_as_json", "print_entries"]


def print_entries(rows: Sequence[tuple[Entry, tuple[str, ...]]], more: tuple[str, ...]) -> None:
    """Print incidents, three lines each at most; ``more`` names what stands behind each."""
    if not rows:
        print_line("no incidents")
    for entry, told in rows:
        said = "  ".join(f"{name} {value}" for name, value in zip(more, told, strict=True))
        print_line(
            styled(f"{entry.bundle[:12]}  {utc(entry.opened_ns)}  {inert(entry.kind, 20)}", bold=True)
            + f"  {said}".rstrip()
        )
        where = ", ".join(
            part for part in (inert(entry.stream, 40), inert(entry.cause, 40), inert(entry.reason, 140)) if part
        )
        print_wrapped(where, indent="    ")
        if entry.labels:
            print_wrapped(
                ", ".join(f"{name}: {inert(value, 100)}" for name, value in entry.labels.items()), indent="    "
            )


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """One incident as JSON."""
    return {
        "bundle": entry.bundle,
        "path": entry.path,
        "opened": iso(entry.opened_ns),
        "stream": entry.stream,
        "trigger": entry.kind,
        "reason": entry.reason,
        "signature": entry.signature,
        "cause": entry.cause,
        "models": entry.models,
        "frames": entry.frames,
        "group": entry.group,
        "suppressed_before": entry.recurrences,
        "labels": entry.labels,
    }
