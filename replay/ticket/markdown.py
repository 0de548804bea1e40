"""Documents as Markdown, as GitHub and GitLab read it (https://github.github.com/gfm/).

A claim stands in a code span, which it cannot leave: its backticks become apostrophes. Within a code span no mention,
reference, link, image, HTML, emoji or formula takes effect, and as no line begins with one, no quick action either.
"""

from __future__ import annotations

import re

from replay.ticket.document import Claim, Document, Line, marker

__all__ = ["is_marked", "markdown", "markdown_marker", "span", "state_of"]

#: What else the first line says: names and values of ours.
_STATE = re.compile(r" ([a-z]+)=([A-Za-z0-9/._-]+)")


def markdown(
    document: Document, *, appendix: str = "", state: dict[str, str] | None = None, marked: bool = True
) -> str:
    """Return a document as Markdown.

    Args:
        document: what to say.
        appendix: Markdown of ours that follows, such as a link to an upload.
        state: what a later run wants to know of this one; kept in the marker, unseen.
        marked: whether to begin with the comment by which the document is found again.
    """
    parts = [markdown_marker(document.id, state)] if marked else []
    parts.append(f"### {_line(document.title)}")
    parts.append("\n".join(f"- **{fact.name}:** {_line(fact.line)}" for fact in document.facts))
    if document.command:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", document.command)), default=0))
        parts.append(f"{fence}sh\n{document.command}\n{fence}")
    if appendix:
        parts.append(appendix)
    return "\n\n".join(parts) + "\n"


def span(part: Claim) -> str:
    """Return a claim as a code span."""
    # A leading and a trailing space are kept only together; "|" would end a cell if someone moves the line to a table.
    return f"`{part.text.replace('`', chr(39)).replace('|', '¦')}`"


def markdown_marker(document_id: str, state: dict[str, str] | None = None) -> str:
    """Return the first line of a comment: an HTML comment, which no tracker shows."""
    said = "".join(f" {name}={value}" for name, value in (state or {}).items())
    return f"<!-- {marker(document_id)}{said} -->"


def is_marked(body: object, document_id: str) -> bool:
    """Whether a comment's text begins with a document's marker."""
    return isinstance(body, str) and body.startswith(f"<!-- {marker(document_id)}")


def state_of(body: str) -> dict[str, str]:
    """Return the state in a marked comment."""
    first = body.partition("\n")[0]
    return dict(_STATE.findall(first))


def _line(line: Line) -> str:
    return "".join(span(part) if isinstance(part, Claim) else part for part in line)
