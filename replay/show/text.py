"""Text that is safe to show: strings of a bundle made inert, and the few formats people read.

Every string that came out of a bundle passes through `inert` (or `inert_markdown`) before it reaches a terminal or a
page. What is left prints as itself: no cursor moves, no colours, no reordering, nothing invisible.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

__all__ = ["Say", "cells", "duration", "fit", "id_ranges", "inert", "inert_markdown", "iso", "size", "utc"]

#: `inert` or `inert_markdown`: (text, limit) to safe text.
Say = Callable[[object, int], str]

#: Escape sequences go with their parameters and payload: an OSC title, a CSI colour. Each alternative stops at the next
#: ESC, so the match stays linear in the length of the text.
_ESCAPES = re.compile(
    "(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)?"  # strings: OSC, DCS, SOS, PM, APC
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI
    "|\x1b[ -/]*[0-~]?"  # two characters and charset selections
)

#: Letters that draw nothing: fillers of Hangul and Braille, and the combining grapheme joiner.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")

#: Marks stacked on one letter beyond this climb over the neighbouring lines.
_MARKS_KEPT = 2


def inert(text: object, limit: int = 200) -> str:
    """Return ``text`` on one line, without anything that moves, hides or reorders what is shown.

    Removed: terminal escape sequences, C0 and C1 controls, bidirectional and other format characters, zero-width and
    invisible letters, lone surrogates, unassigned and private code points, stacked combining marks. Line breaks and
    tabs become spaces. Longer than ``limit`` characters, it ends in "…".
    """
    raw = str(text)
    head = raw[: limit * 16 + 64]  # enough to fill the limit from honest text; bounds the work on hostile text
    kept = "".join(_visible(_ESCAPES.sub("", head)))
    kept = " ".join(kept.split())
    if len(kept) > limit or len(raw) > len(head):
        return kept[: max(limit - 1, 0)].rstrip() + "…"
    return kept


def _visible(text: str) -> Iterator[str]:
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category[0] == "M" else 0
        if character in "\n\r\t\v\f" or category[0] == "Z":
            yield " "
        elif category[0] != "C" and character not in _INVISIBLE and marks <= _MARKS_KEPT:
            yield character


def inert_markdown(text: object, limit: int = 200) -> str:
    """Return ``text`` as a Markdown code span: no mention, link, image, HTML or table border in it takes effect."""
    plain = inert(text, limit).replace("`", "'").replace("|", "¦")
    return f"`{plain}`" if plain else ""


def cells(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes: two for wide East Asian characters, none for marks."""
    return sum(
        0 if unicodedata.category(character)[0] == "M" else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def fit(text: object, columns: int) -> str:
    """Return ``text`` made inert, cut and padded to exactly ``columns``."""
    shown = inert(text, columns)
    if cells(shown) > columns:
        while cells(shown) > columns - 1:
            shown = shown[:-1]
        shown += "…"
    return shown + " " * (columns - cells(shown))


def size(size_bytes: int) -> str:
    """Return a size in decimal units: "812 bytes", "11.2 MB"."""
    if size_bytes < 1000:
        return f"{size_bytes} byte{'' if size_bytes == 1 else 's'}"
    amount = float(min(size_bytes, 10**30))
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


def duration(seconds: float | None) -> str:
    """Return a span of time in the unit that suits it: "850 µs", "23.1 ms", "4.20 s", "3 min 20 s"."""
    if seconds is None:
        return "-"
    for scale, unit, places in ((1e-3, "µs", 0), (1.0, "ms", 1), (60.0, "s", 2)):
        if abs(seconds) < scale:
            return f"{seconds * {'µs': 1e6, 'ms': 1e3, 's': 1.0}[unit]:.{places}f} {unit}"
    if abs(seconds) < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if abs(seconds) < 1e9:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds:.1e} s"


def iso(time_ns: int) -> str | None:
    """Return a time in ISO 8601, UTC, to the microsecond; None for one that no calendar has."""
    try:
        return datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC).isoformat(timespec="microseconds")
    except (OverflowError, ValueError, OSError):
        return None


def utc(time_ns: int) -> str:
    """Return a time for people: "2026-11-22 15:38:50 UTC"."""
    exact = iso(time_ns)
    return f"{exact[:10]} {exact[11:19]} UTC" if exact else "an impossible time"


def id_ranges(ids: Iterable[int], limit: int = 12) -> str:
    """Return ids shortened to ranges: "3, 7-9"; after ``limit`` ranges it ends in "…"."""
    ranges: list[list[int]] = []
    for each in sorted(set(ids)):
        if ranges and each == ranges[-1][1] + 1:
            ranges[-1][1] = each
        else:
            ranges.append([each, each])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in ranges[:limit]]
    return ", ".join(shown) + (", …" if len(ranges) > limit else "")
