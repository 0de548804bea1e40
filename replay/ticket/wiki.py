"""Documents in Jira's wiki markup, which Data Center's API takes.

https://jira.atlassian.com/secure/WikiRendererHelpAction.jspa?section=all. ``{{monospaced}}`` text is still searched for
markup, mentions and links; inside ``{noformat}`` nothing is, up to the next ``{noformat}``. So everything that was not
written here stands in such blocks, and no brace in them can end one.
"""

from __future__ import annotations

import re

from replay.ticket.document import Claim, Document, Line, marker

__all__ = ["is_marked", "wiki"]

#: What a picture is called by us; anything else could end the markup around it.
_PICTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.jpg")

#: Ornaments that look like braces (U+2774, U+2775) and mean nothing to Jira.
_BRACES = str.maketrans({"{": "\u2774", "}": "\u2775"})


def wiki(document: Document, *, picture_name: str | None = None) -> str:
    """Return a document as wiki markup; ``picture_name`` is that of a file on the same issue."""
    lines = [_line(document.title), *(f"{fact.name}: {_line(fact.line)}" for fact in document.facts)]
    parts = ["h3. Incident", _verbatim("\n".join(lines))]
    if document.command:
        parts.append(_verbatim(document.command))
    if picture_name is not None and _PICTURE.fullmatch(picture_name):
        parts.append(f"!{picture_name}|thumbnail!")
    # Jira has no unseen text in a comment; the marker is its last line.
    parts.append(f"_{marker(document.id)}_")
    return "\n\n".join(parts)


def is_marked(body: object, document_id: str) -> bool:
    """Whether a comment's text ends with a document's marker."""
    return isinstance(body, str) and body.rstrip().endswith(f"_{marker(document_id)}_")


def _verbatim(text: str) -> str:
    return f"{{noformat}}\n{text.translate(_BRACES)}\n{{noformat}}"


def _line(line: Line) -> str:
    return "".join(part.text if isinstance(part, Claim) else part for part in line)
