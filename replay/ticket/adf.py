"""Documents in the Atlassian Document Format, which Jira Cloud's API takes.

https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/: a tree of typed nodes. Text is only ever
text: wiki markup, mentions, links and macros are nodes of other types, of which a claim can make none.
"""

from __future__ import annotations

from typing import Any

from replay.ticket.document import Claim, Document, Line, marker

__all__ = ["adf", "is_marked"]

_Node = dict[str, Any]


def adf(document: Document, *, picture_url: str | None = None) -> _Node:
    """Return a document as ADF; ``picture_url`` is where Jira itself serves the picture."""
    content: list[_Node] = [{"type": "heading", "attrs": {"level": 3}, "content": _line(document.title)}]
    items = [
        {
            "type": "listItem",
            "content": [
                {"type": "paragraph", "content": [_text(f"{fact.name}: ", "strong"), *_line(fact.line)]},
            ],
        }
        for fact in document.facts
    ]
    if items:
        content.append({"type": "bulletList", "content": items})
    if document.command:
        content.append({"type": "codeBlock", "attrs": {"language": "shell"}, "content": [_text(document.command)]})
    if picture_url:
        media = {"type": "media", "attrs": {"type": "external", "url": picture_url, "alt": "first bad image"}}
        content.append({"type": "mediaSingle", "attrs": {"layout": "align-start"}, "content": [media]})
    content.append(_signature(document.id))
    return {"type": "doc", "version": 1, "content": content}


def is_marked(body: object, document_id: str) -> bool:
    """Whether a comment's body ends with a document's marker."""
    if not isinstance(body, dict) or not isinstance(body.get("content"), list) or not body["content"]:
        return False
    last = body["content"][-1]
    texts = last.get("content") if isinstance(last, dict) else None
    return isinstance(texts, list) and [text.get("text") for text in texts if isinstance(text, dict)] == [
        marker(document_id)
    ]


def _signature(document_id: str) -> _Node:
    """Jira has no unseen text in a comment; the marker is its last line."""
    return {"type": "paragraph", "content": [_text(marker(document_id), "em")]}


def _line(line: Line) -> list[_Node]:
    return [_text(part.text, "code") if isinstance(part, Claim) else _text(part) for part in line if part != ""]


def _text(text: str, mark: str | None = None) -> _Node:
    node: _Node = {"type": "text", "text": text}
    return node | {"marks": [{"type": mark}]} if mark else node
