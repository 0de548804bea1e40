"""What stands on a ticket, before it is in any tracker's language.

Text is of two kinds. A ``str`` is ours: fixed words, numbers, digests. A `Claim` came out of a bundle, a saved result
or the name of a file, and each language shows it as code, where nothing in it acts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from replay.show.text import inert

__all__ = ["Claim", "Document", "Fact", "Line", "Picture", "claim", "marker"]

#: Long enough for a sentence; a ticket is no archive.
_CLAIM_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of somebody else's text, already `inert`; never empty."""

    text: str


Line = tuple[str | Claim, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and what is said of it."""

    name: str
    line: Line


@dataclass(frozen=True, slots=True)
class Picture:
    """A small JPEG that was encoded here."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One comment. A tracker holds at most one of each id."""

    id: str  #: 64 hex digits: the bundle id, or what is derived from one
    title: Line
    facts: tuple[Fact, ...]
    command: str = ""  #: one line of shell; "" for none
    parent: str | None = None  #: id of the document this one belongs under

    def claims(self) -> Iterator[Claim]:
        """Every string that is not ours."""
        for line in (self.title, *(fact.line for fact in self.facts)):
            yield from (part for part in line if isinstance(part, Claim))


def claim(text: object, limit: int = _CLAIM_CHARACTERS) -> Claim:
    """Make somebody else's text safe to place; what is empty then becomes a dash."""
    return Claim(inert(text, limit) or "-")


def marker(document_id: str) -> str:
    """Return the words by which a comment is recognised as this document."""
    return f"vision-flight-recorder ticket {document_id}"
