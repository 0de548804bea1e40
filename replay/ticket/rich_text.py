"""Documents as Slack's rich text blocks.

https://docs.slack.dev/reference/block-kit/blocks/rich-text-block/: typed elements. A text element is shown as it is:
mentions, broadcasts, channels and links are elements of other types, and ``<!channel>`` in a text is seven letters.
"""

from __future__ import annotations

from typing import Any

from replay.ticket.document import Claim, Document, Line

__all__ = ["rich_text", "summary"]

_Element = dict[str, Any]


def rich_text(document: Document) -> list[_Element]:
    """Return a document as the blocks of one message."""
    elements = [_section([*_line(document.title, bold=True)])]
    items = [_section([_text(f"{fact.name}: ", bold=True), *_line(fact.line)]) for fact in document.facts]
    if items:
        elements.append({"type": "rich_text_list", "style": "bullet", "elements": items})
    if document.command:
        elements.append({"type": "rich_text_preformatted", "elements": [_text(document.command)]})
    return [{"type": "rich_text", "elements": elements}]


def summary(document: Document) -> str:
    """Return the text of notifications. It is parsed as markup, so nothing of a bundle is in it."""
    return f"Incident, bundle {document.id[:12]}" if document.parent is None else "The incident came again"


def _section(elements: list[_Element]) -> _Element:
    return {"type": "rich_text_section", "elements": elements}


def _line(line: Line, *, bold: bool = False) -> list[_Element]:
    return [
        _text(part.text, code=True) if isinstance(part, Claim) else _text(part, bold=bold)
        for part in line
        if part != ""
    ]


def _text(text: str, **style: bool) -> _Element:
    set_styles = {name: True for name, value in style.items() if value}
    element: _Element = {"type": "text", "text": text}
    return element | {"style": set_styles} if set_styles else element
