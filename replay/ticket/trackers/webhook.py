"""A webhook of yours: one JSON object, signed.

``X-Flight-Recorder-Signature: t=SECONDS,v1=HEX`` is the HMAC-SHA256 of ``SECONDS.BODY`` under the shared secret: the
receiver computes it over the bytes it got, compares in constant time, and refuses old times. ``Idempotency-Key`` is
the document's id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import urllib.parse
from typing import Any, ClassVar

from replay.ticket.document import Claim, Document, Line
from replay.ticket.http import Client, checked_url
from replay.ticket.tracker import Address, Filed, Placed, Tracker, secret

__all__ = ["Webhook", "as_json", "signature"]


class Webhook(Tracker):
    """One URL."""

    name: ClassVar[str] = "the webhook"
    takes_files: ClassVar[bool] = False

    def __init__(self, client: Client, path: str, key: str) -> None:
        super().__init__(client)
        self._path, self._key = path, key

    @classmethod
    def at(cls, address: Address, url: str | None, timeout_seconds: float) -> Webhook:
        """Connect; nothing is sent yet. ``url`` is not used: the address is one."""
        whole = checked_url(address.parts[0], "the webhook's address")
        parts = urllib.parse.urlsplit(whole)
        client = Client(
            tracker=cls.name,
            base=f"{parts.scheme}://{parts.netloc}",
            credentials={},
            named="REPLAY_WEBHOOK_SECRET",
            target="such path",  # it may hold a secret
            timeout_seconds=timeout_seconds,
        )
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        return cls(client, path, secret("REPLAY_WEBHOOK_SECRET", what="the secret shared with the webhook"))

    def limit_bytes(self) -> int:
        """No file at all."""
        return 0

    def is_public(self) -> bool:
        """It cannot be told."""
        return True

    def file(self, placed: Placed) -> Filed:
        """Send the object; whether it is new is for the receiver to say."""
        document = placed.compose(False)
        data = as_json(document)
        if placed.picture is not None:
            image = base64.b64encode(placed.picture.data).decode()
            data["image"] = {"name": placed.picture.name, "media_type": "image/jpeg", "base64": image}
        body = json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode()
        headers = {
            "X-Flight-Recorder-Signature": signature(self._key, body, int(time.time())),
            "Idempotency-Key": document.id,
        }
        self.client.call("POST", self._path, data=body, headers=headers)
        return Filed(updated=False, attached=False)


def as_json(document: Document) -> dict[str, Any]:
    """Return a document as plain data: texts, without a word of markup."""
    return {
        "event": "incident" if document.parent is None else "recurrence",
        "document": document.id,
        "parent": document.parent,
        "title": _plain(document.title),
        "facts": [{"name": fact.name, "text": _plain(fact.line)} for fact in document.facts],
        "command": document.command,
    }


def signature(key: str, body: bytes, seconds: int) -> str:
    """Return the header that says who sent a body, and when."""
    digest = hmac.new(key.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def _plain(line: Line) -> str:
    return "".join(part.text if isinstance(part, Claim) else part for part in line)
