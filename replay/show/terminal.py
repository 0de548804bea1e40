"""Where a command writes: results on stdout, progress and remarks on stderr, 80 columns, colour only on a terminal."""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from replay.show.text import cells

__all__ = [
    "COLUMNS",
    "counting",
    "print_heading",
    "print_json",
    "print_line",
    "print_note",
    "print_wrapped",
    "progress",
    "shows_blocks",
    "styled",
]

T = TypeVar("T")

#: Fits every terminal and every ticket; longer lines would wrap where it suits nobody.
COLUMNS = 80


def styled(text: str, **style: Any) -> str:
    """Colour text when stdout is a terminal that wants it (https://no-color.org)."""
    return click.style(text, **style) if _wants_colour() else text


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def shows_blocks() -> bool:
    """Whether stdout's encoding has the block characters of a bar chart."""
    try:
        "▁█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def print_line(text: str = "") -> None:
    """Print one line of the result as it is."""
    click.echo(text)


def print_heading(text: str) -> None:
    """Print a heading with an empty line before it."""
    click.echo()
    click.echo(styled(text, bold=True))


def print_wrapped(text: str, indent: str = "", first: str | None = None) -> None:
    """Print a paragraph folded at COLUMNS; ``first`` replaces the indent of its first line."""
    lines = textwrap.wrap(
        text,
        width=COLUMNS,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    for line in lines or [(indent if first is None else first).rstrip()]:
        for part in _fold_wide(line):
            click.echo(part)


def _fold_wide(line: str) -> Iterator[str]:
    """textwrap counts letters; wide ones take two columns."""
    while cells(line) > COLUMNS:
        cut = len(line)
        while cells(line[:cut]) > COLUMNS:
            cut -= 1
        yield line[:cut]
        line = line[cut:]
    yield line


def print_note(text: str) -> None:
    """Print a remark on stderr."""
    click.echo(text, err=True)


def print_json(data: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print one JSON object, or a list of findings: ASCII, so that nothing in it can act on a terminal.

    Numbers that JSON cannot say (NaN and the infinities) become null.
    """
    text = json.dumps(_plain(data), ensure_ascii=True, allow_nan=False, indent=2)
    click.echo(text.replace("\x7f", "\\u007f"))


def _plain(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, dict):
        return {str(key): _plain(item) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return data


@contextmanager
def progress(items: Iterable[T], label: str, length: int | None = None) -> Iterator[Iterable[T]]:
    """Iterate with a bar on stderr when that is a terminal, silently otherwise."""
    if length is None and isinstance(items, Sequence):
        length = len(items)
    if not sys.stderr.isatty() or (length is not None and length < 2):
        yield items
        return
    with click.progressbar(items, length=length, label=label, file=sys.stderr, width=24) as bar:
        yield bar


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback for ``(done, total)`` that draws a bar on stderr, or None when that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, width=24) as bar:

        def count(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield count
