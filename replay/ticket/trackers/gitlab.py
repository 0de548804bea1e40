"""GitLab: project uploads and issue notes.

https://docs.gitlab.com/api/project_markdown_uploads/ and https://docs.gitlab.com/api/notes/
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, ClassVar

from replay.ticket.attachment import Attachment, Multipart, from_bytes
from replay.ticket.errors import TrackerUnavailable
from replay.ticket.http import Client
from replay.ticket.markdown import is_marked, markdown, state_of
from replay.ticket.tracker import Address, Filed, Placed, Tracker, base_url, secret

__all__ = ["GitLab"]

_PAGE = 100
_MAX_PAGES = 50
#: GitLab.com's, and the default of other instances ("Maximum attachment size"); older ones took 10 MB and answer 413.
_LIMIT_BYTES = 100 * 2**20
#: What the API says an upload's address is; it goes into our Markdown, so nothing else is taken.
_UPLOAD = re.compile(r"/uploads/[0-9a-f]{32}/[A-Za-z0-9._-]{1,250}")


class GitLab(Tracker):
    """One issue of a project."""

    name: ClassVar[str] = "GitLab"

    def __init__(self, client: Client, project: str, issue: str) -> None:
        super().__init__(client)
        self._project = f"/api/v4/projects/{urllib.parse.quote(project, safe='')}"
        self._notes = f"{self._project}/issues/{issue}/notes"

    @classmethod
    def at(cls, address: Address, url: str | None, timeout_seconds: float) -> GitLab:
        """Connect; nothing is sent yet."""
        client = Client(
            tracker=cls.name,
            base=base_url("gitlab", url, "https://gitlab.com"),
            credentials={"PRIVATE-TOKEN": secret("GITLAB_TOKEN", what="a token for GitLab")},
            named="GITLAB_TOKEN",
            target=f"{address.parts[0]}#{address.parts[1]}",
            timeout_seconds=timeout_seconds,
        )
        return cls(client, *address.parts)

    def limit_bytes(self) -> int:
        """What GitLab takes unless its administrator says otherwise."""
        return _LIMIT_BYTES

    def is_public(self) -> bool:
        """Whether the project is."""
        return self.client.call("GET", self._project).json().get("visibility") not in ("private", "internal")

    def file(self, placed: Placed) -> Filed:
        """Upload what is not there yet, then write the note or edit ours."""
        found = self._find(placed.compose(False).id)
        known = state_of(found["body"]) if found else {}
        state: dict[str, str] = {}
        if placed.attachment is not None:
            state["digest"] = placed.attachment.sha256()
            same = known.get("digest") == state["digest"] and _UPLOAD.fullmatch(known.get("file", ""))
            state["file"] = known["file"] if same else self._upload(placed.attachment)
        if placed.picture is not None:
            kept = known.get("picture", "")
            picture = from_bytes(placed.picture.name, placed.picture.data, "image/jpeg")
            state["picture"] = kept if _UPLOAD.fullmatch(kept) else self._upload(picture)
        document = placed.compose(placed.attachment is not None)
        links = [f"[{placed.attachment.name}]({state['file']})"] if placed.attachment is not None else []
        links += [f"![first bad image]({state['picture']})"] if "picture" in state else []
        body = {"body": markdown(document, appendix="\n\n".join(links), state=state)}
        if found:
            self.client.call("PUT", f"{self._notes}/{found['id']}", data=body)
        else:
            self.client.call("POST", self._notes, data=body)
        return Filed(updated=found is not None, attached=placed.attachment is not None)

    def _upload(self, file: Attachment) -> str:
        answer = self.client.call("POST", f"{self._project}/uploads", upload=lambda: Multipart(file))
        url = answer.json().get("url")
        if not isinstance(url, str) or not _UPLOAD.fullmatch(url):
            raise TrackerUnavailable("GitLab's answer to an upload is not what its API says; is this its address?")
        return url

    def _find(self, document_id: str) -> dict[str, Any] | None:
        """The note that is this document and was written by us: everybody may write our marker."""
        me = self.client.call("GET", "/api/v4/user").json().get("id")
        for page in range(1, _MAX_PAGES + 1):
            query = f"?per_page={_PAGE}&page={page}&sort=asc&order_by=created_at"
            notes = self.client.call("GET", self._notes + query).json(list)
            for note in notes:
                author = note.get("author") if isinstance(note, dict) else None
                ours = isinstance(author, dict) and me is not None and author.get("id") == me
                if ours and isinstance(note.get("id"), int) and is_marked(note.get("body"), document_id):
                    return dict(note)
            if len(notes) < _PAGE:
                break
        return None
