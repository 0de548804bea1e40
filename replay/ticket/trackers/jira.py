"""Jira Cloud: attachments and comments of an issue, REST API version 3.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/
"""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from replay.ticket.adf import adf, is_marked
from replay.ticket.attachment import Attachment, Multipart, from_bytes
from replay.ticket.document import Document
from replay.ticket.http import Client, origin_of
from replay.ticket.tracker import Address, Filed, Placed, Tracker, base_url, secret

__all__ = ["Jira"]

_PAGE = 100
_MAX_PAGES = 50


class Jira(Tracker):
    """One issue; `replay.ticket.trackers.jira_server` says how Data Center differs."""

    name: ClassVar[str] = "Jira"
    api: ClassVar[str] = "/rest/api/3"
    account: ClassVar[str] = "accountId"  #: the field by which accounts are told apart

    def __init__(self, client: Client, key: str) -> None:
        super().__init__(client)
        self._issue = f"{self.api}/issue/{key}"
        self._me: object = None

    @classmethod
    def at(cls, address: Address, url: str | None, timeout_seconds: float) -> Jira:
        """Connect; nothing is sent yet."""
        user = secret("JIRA_EMAIL", what="the account of the token for Jira")
        token = secret("JIRA_API_TOKEN", what="a token for Jira")
        basic = base64.b64encode(f"{user}:{token}".encode()).decode()
        client = Client(
            tracker=cls.name,
            base=base_url("jira", url, None),
            credentials={"Authorization": f"Basic {basic}"},
            named="JIRA_EMAIL and JIRA_API_TOKEN",
            target=address.parts[0],
            timeout_seconds=timeout_seconds,
        )
        return cls(client, *address.parts)

    def limit_bytes(self) -> int:
        """What this site takes: it says so itself."""
        settings = self.client.call("GET", f"{self.api}/attachment/meta").json()
        limit = settings.get("uploadLimit")
        return limit if settings.get("enabled") is True and isinstance(limit, int) else 0

    def is_public(self) -> bool:
        """It cannot be told: a project may be open to anybody."""
        return True

    def file(self, placed: Placed) -> Filed:
        """Attach what is not there yet, then comment or edit our comment."""
        self._me = self.client.call("GET", f"{self.api}/myself").json().get(self.account)
        found = self._find(placed.compose(False).id)
        if placed.attachment is not None:
            self._attached(placed.attachment)
        picture = None
        if placed.picture is not None:
            picture = self._attached(from_bytes(placed.picture.name, placed.picture.data, "image/jpeg"))
        body = {"body": self.written(placed.compose(placed.attachment is not None), picture)}
        if found is not None:
            self.client.call("PUT", f"{self._issue}/comment/{found}", data=body)
        else:
            self.client.call("POST", f"{self._issue}/comment", data=body)
        return Filed(updated=found is not None, attached=placed.attachment is not None)

    def written(self, document: Document, picture: dict[str, Any] | None) -> object:
        """Return a document as the body of a comment, with the picture as Jira describes it."""
        return adf(document, picture_url=self._own_url(picture.get("content")) if picture is not None else None)

    def is_written(self, body: object, document_id: str) -> bool:
        """Whether a comment's body is that document."""
        return is_marked(body, document_id)

    def _attached(self, file: Attachment) -> dict[str, Any]:
        """The file on the issue: one of this name and size by us is not sent again."""
        fields = self.client.call("GET", f"{self._issue}?fields=attachment").json().get("fields")
        there = fields.get("attachment") if isinstance(fields, dict) else None
        for each in there if isinstance(there, list) else ():
            same = isinstance(each, dict) and (each.get("filename"), each.get("size")) == (file.name, file.size_bytes)
            if same and self._is_ours(each):
                return dict(each)
        answer = self.client.call(
            "POST",
            f"{self._issue}/attachments",
            upload=lambda: Multipart(file),
            headers={"X-Atlassian-Token": "no-check"},  # Jira's protection against forged forms; it is required
        )
        return next((each for each in answer.json(list) if isinstance(each, dict)), {})

    def _find(self, document_id: str) -> str | None:
        """The comment that is this document and was written by us: everybody may write our marker."""
        for page in range(_MAX_PAGES):
            query = f"?startAt={page * _PAGE}&maxResults={_PAGE}&orderBy=created"
            comments = self.client.call("GET", f"{self._issue}/comment{query}").json().get("comments")
            comments = comments if isinstance(comments, list) else []
            for each in comments:
                number = each.get("id") if isinstance(each, dict) and self._is_ours(each) else None
                if isinstance(number, str) and number.isdecimal() and self.is_written(each.get("body"), document_id):
                    return number
            if len(comments) < _PAGE:
                break
        return None

    def _is_ours(self, thing: dict[str, Any]) -> bool:
        author = thing.get("author")
        return isinstance(author, dict) and self._me is not None and author.get(self.account) == self._me

    def _own_url(self, url: object) -> str | None:
        """An address on the site itself: a reader's browser fetches it."""
        return url if isinstance(url, str) and origin_of(url) == origin_of(self.client.base) else None
