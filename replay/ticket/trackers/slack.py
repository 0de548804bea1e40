"""Slack: a message in a channel, files in its thread.

https://docs.slack.dev/reference/methods: chat.postMessage, chat.update, conversations.list|history|replies,
files.getUploadURLExternal, files.completeUploadExternal. Slack answers 200 to errors, too, and names them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

from replay.show.text import inert
from replay.ticket.attachment import Attachment, Raw, from_bytes
from replay.ticket.errors import AddressInvalid, TrackerUnavailable
from replay.ticket.http import Client, origin_of
from replay.ticket.rich_text import rich_text, summary
from replay.ticket.tracker import Address, Filed, Placed, Tracker, base_url, secret

__all__ = ["Slack"]

#: "Each file can be up to 1 GB."
_LIMIT_BYTES = 10**9
_EVENT = "vision_flight_recorder_ticket"
_PAGE = 200
#: How far back a message is looked for: ten thousand messages.
_MAX_PAGES = 50
_NOT_WE = (
    "invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "missing_scope",
    "no_permission", "access_denied", "not_allowed_token_type", "org_login_required", "ekm_access_denied",
)  # fmt: skip
_NOT_THERE = ("channel_not_found", "not_in_channel", "is_archived", "restricted_action")


class Slack(Tracker):
    """One channel."""

    name: ClassVar[str] = "Slack"

    def __init__(self, client: Client, channel: str) -> None:
        super().__init__(client)
        self._wanted = channel
        self._me: object = None

    @classmethod
    def at(cls, address: Address, url: str | None, timeout_seconds: float) -> Slack:
        """Connect; nothing is sent yet."""
        client = Client(
            tracker=cls.name,
            base=base_url("slack", url, "https://slack.com/api"),
            credentials={"Authorization": f"Bearer {secret('SLACK_BOT_TOKEN', what='a token for Slack')}"},
            named="SLACK_BOT_TOKEN",
            target=f"channel {inert(address.parts[0], 90)}",
            timeout_seconds=timeout_seconds,
        )
        return cls(client, *address.parts)

    def limit_bytes(self) -> int:
        """What Slack takes."""
        return _LIMIT_BYTES

    def is_public(self) -> bool:
        """It cannot be told: a channel may be shared with another company."""
        return True

    def file(self, placed: Placed) -> Filed:
        """Post the message or edit ours, then put into its thread the files that are not there."""
        self._me = self._ask("auth.test").get("user_id")
        channel = self._channel()
        document = placed.compose(placed.attachment is not None)
        thread = self._find(channel, document.parent) if document.parent else None
        found = self._find(channel, document.id, thread)
        if found is None and thread is not None:  # it was quicker than what it belongs under
            found = self._find(channel, document.id)
        said = {
            "channel": channel,
            "text": summary(document),
            "blocks": rich_text(document),
            "metadata": {"event_type": _EVENT, "event_payload": {"document": document.id}},
            "parse": "none",
            "link_names": False,
        }
        posted: object = found
        if found is not None:
            self._tell("chat.update", {**said, "ts": found})
        else:
            place = {"thread_ts": thread} if thread else {}
            quiet = {"unfurl_links": False, "unfurl_media": False}
            posted = self._tell("chat.postMessage", {**said, **quiet, **place}).get("ts")
            if not isinstance(posted, str):
                raise TrackerUnavailable("Slack's answer is not what its API says; is this its address?")
        self._attach(channel, str(posted), placed)
        return Filed(updated=found is not None, attached=placed.attachment is not None)

    def _attach(self, channel: str, message: str, placed: Placed) -> None:
        files = [placed.attachment] if placed.attachment is not None else []
        if placed.picture is not None:
            files.append(from_bytes(placed.picture.name, placed.picture.data, "image/jpeg"))
        if not files:
            return
        there = {
            (file.get("name"), file.get("size"))
            for reply in self._pages("conversations.replies", "messages", channel=channel, ts=message)
            if self._is_ours(reply)
            for file in reply.get("files") or ()
            if isinstance(file, dict)
        }
        missing = [file for file in files if (file.name, file.size_bytes) not in there]
        if missing:
            uploaded = [{"id": self._upload(file), "title": file.name} for file in missing]
            form = {"files": json.dumps(uploaded), "channel_id": channel, "thread_ts": message}
            self._ask("files.completeUploadExternal", **form)

    def _upload(self, file: Attachment) -> str:
        ticket = self._ask("files.getUploadURLExternal", filename=file.name, length=str(file.size_bytes))
        url, number = ticket.get("upload_url"), ticket.get("file_id")
        if not isinstance(url, str) or not isinstance(number, str):
            raise TrackerUnavailable("Slack's answer is not what its API says; is this its address?")
        if origin_of(url)[0] != "https" and origin_of(url) != origin_of(self.client.base):
            raise TrackerUnavailable("Slack names an upload address that is no encrypted one; nothing was sent there")
        self.client.call("POST", url, upload=lambda: Raw(file))  # another host: the client sends it no token
        return number

    def _channel(self) -> str:
        if not self._wanted.startswith("#"):
            return self._wanted
        name = self._wanted[1:]
        listed = self._pages(
            "conversations.list", "channels", types="public_channel,private_channel", exclude_archived="true"
        )
        for channel in listed:
            if channel.get("name") == name and isinstance(channel.get("id"), str):
                return str(channel["id"])
        raise AddressInvalid(f"Slack has no {self.client.target}, or does not show it to the bot; invite the bot to it")

    def _find(self, channel: str, document_id: str, thread: str | None = None) -> str | None:
        """The message that is this document and was written by us."""
        place = {"ts": thread} if thread else {}
        method = "conversations.replies" if thread else "conversations.history"
        for message in self._pages(method, "messages", channel=channel, include_all_metadata="true", **place):
            metadata = message.get("metadata")
            payload = metadata.get("event_payload") if isinstance(metadata, dict) else None
            if isinstance(payload, dict) and payload.get("document") == document_id and self._is_ours(message):
                return str(message.get("ts"))
        return None

    def _is_ours(self, message: dict[str, Any]) -> bool:
        return self._me is not None and message.get("user") == self._me

    def _pages(self, method: str, key: str, **form: str) -> Iterator[dict[str, Any]]:
        cursor = ""
        for _ in range(_MAX_PAGES):
            answer = self._ask(method, limit=str(_PAGE), **form, **({"cursor": cursor} if cursor else {}))
            found = answer.get(key)
            yield from (each for each in (found if isinstance(found, list) else ()) if isinstance(each, dict))
            following = answer.get("response_metadata")
            cursor = str(following.get("next_cursor") or "") if isinstance(following, dict) else ""
            if not cursor:
                return

    def _ask(self, method: str, **form: str) -> dict[str, Any]:
        return self._checked(method, self.client.call("POST", f"/{method}", form=form).json())

    def _tell(self, method: str, data: dict[str, Any]) -> dict[str, Any]:
        return self._checked(method, self.client.call("POST", f"/{method}", data=data).json())

    def _checked(self, method: str, answer: dict[str, Any]) -> dict[str, Any]:
        if answer.get("ok") is True:
            return answer
        error = inert(answer.get("error") or "no reason", 60)
        if error in _NOT_WE:
            raise AddressInvalid(
                f"Slack does not accept the credentials in SLACK_BOT_TOKEN for {method} ({error}); "
                "give them the scopes that docs/tickets.md lists"
            )
        if error in _NOT_THERE:
            raise AddressInvalid(f"Slack does not let the bot into {self.client.target} ({error}); invite it")
        raise TrackerUnavailable(f"Slack refuses {method} ({error}); try again later")
