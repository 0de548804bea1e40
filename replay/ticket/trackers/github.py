"""GitHub: issue comments (https://docs.github.com/rest/issues/comments). Its API takes no files."""

from __future__ import annotations

from typing import Any, ClassVar

from replay.show.text import inert
from replay.ticket.errors import TrackerUnavailable
from replay.ticket.http import Client
from replay.ticket.markdown import is_marked, markdown
from replay.ticket.tracker import Address, Filed, Placed, Tracker, base_url, secret

__all__ = ["GitHub"]

_PAGE = 100
_MAX_PAGES = 50
#: "body is too long (maximum is 65536 characters)"
_MAX_CHARACTERS = 65536


class GitHub(Tracker):
    """One issue or pull request."""

    name: ClassVar[str] = "GitHub"
    takes_files: ClassVar[bool] = False

    def __init__(self, client: Client, owner: str, repository: str, number: str) -> None:
        super().__init__(client)
        self._repository = f"/repos/{owner}/{repository}"
        self._comments = f"{self._repository}/issues/{number}/comments"

    @classmethod
    def at(cls, address: Address, url: str | None, timeout_seconds: float) -> GitHub:
        """Connect; nothing is sent yet."""
        client = Client(
            tracker=cls.name,
            base=base_url("github", url, "https://api.github.com"),
            credentials={
                "Authorization": f"Bearer {secret('GITHUB_TOKEN', what='a token for GitHub')}",
                "X-GitHub-Api-Version": "2022-11-28",
            },
            named="GITHUB_TOKEN",
            target=f"{address.parts[0]}/{address.parts[1]}#{address.parts[2]}",
            timeout_seconds=timeout_seconds,
        )
        return cls(client, *address.parts)

    def limit_bytes(self) -> int:
        """No file at all."""
        return 0

    def is_public(self) -> bool:
        """Whether the repository is."""
        return self.client.call("GET", self._repository).json().get("private") is not True

    def file(self, placed: Placed) -> Filed:
        """Comment, or edit our comment."""
        document = placed.compose(False)
        body = markdown(document)
        if len(body) > _MAX_CHARACTERS:
            raise TrackerUnavailable("the comment is longer than GitHub takes; paste `replay show --markdown` by hand")
        mine = self._find(document.id)
        if mine is not None:
            path = f"{self._repository}/issues/comments/{mine}"
            answer = self.client.call("PATCH", path, data={"body": body}, headers=_ACCEPT)
        else:
            answer = self.client.call("POST", self._comments, data={"body": body}, headers=_ACCEPT)
        url = answer.json().get("html_url")
        return Filed(updated=mine is not None, attached=False, url=inert(url, 300) if isinstance(url, str) else None)

    def _find(self, document_id: str) -> int | None:
        """The comment that is this document and was written by us: everybody may write our marker."""
        answer = self.client.call("GET", "/user", headers=_ACCEPT, tolerated=(403,))
        me = answer.json().get("id") if answer.status == 200 else None
        for page in range(1, _MAX_PAGES + 1):
            comments = self.client.call("GET", f"{self._comments}?per_page={_PAGE}&page={page}", headers=_ACCEPT).json(
                list
            )
            for comment in comments:
                if isinstance(comment, dict) and is_marked(comment.get("body"), document_id) and _is_ours(comment, me):
                    number = comment.get("id")
                    return number if isinstance(number, int) else None
            if len(comments) < _PAGE:
                break
        return None


_ACCEPT = {"Accept": "application/vnd.github+json"}


def _is_ours(comment: dict[str, Any], me: object) -> bool:
    """An app's token has no user of its own (403): its comments are by a bot."""
    user = comment.get("user")
    if not isinstance(user, dict):
        return False
    return user.get("id") == me if me is not None else user.get("type") == "Bot"
