"""Jira Data Center, self-hosted: attachments and comments of an issue, REST API version 2.

https://docs.atlassian.com/software/jira/docs/api/REST/latest/; personal access tokens since Jira 8.14.
"""

from __future__ import annotations

from typing import Any, ClassVar

from replay.ticket.document import Document
from replay.ticket.http import Client
from replay.ticket.tracker import Address, base_url, secret
from replay.ticket.trackers.jira import Jira
from replay.ticket.wiki import is_marked, wiki

__all__ = ["JiraServer"]


class JiraServer(Jira):
    """One issue: the paths of Jira Cloud under an older version, comments in wiki markup."""

    name: ClassVar[str] = "Jira"
    api: ClassVar[str] = "/rest/api/2"
    account: ClassVar[str] = "key"  # a name can be changed, the key stays

    @classmethod
    def at(cls, address: Address, url: str | None, timeout_seconds: float) -> JiraServer:
        """Connect; nothing is sent yet."""
        token = secret("JIRA_SERVER_TOKEN", what="a personal access token for Jira")
        client = Client(
            tracker=cls.name,
            base=base_url(address.tracker, url, None),
            credentials={"Authorization": f"Bearer {token}"},
            named="JIRA_SERVER_TOKEN",
            target=address.parts[0],
            timeout_seconds=timeout_seconds,
        )
        return cls(client, *address.parts)

    def written(self, document: Document, picture: dict[str, Any] | None) -> object:
        """Return wiki markup; it names the picture by its file name."""
        name = picture.get("filename") if picture is not None else None
        return wiki(document, picture_name=name if isinstance(name, str) else None)

    def is_written(self, body: object, document_id: str) -> bool:
        """Whether a comment ends with the document's marker."""
        return is_marked(body, document_id)
