"""From an open bundle to a comment on a ticket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from replay.show.text import size
from replay.ticket.attachment import Attachment
from replay.ticket.document import Claim, Document, Fact, Line, Picture, claim
from replay.ticket.errors import AddressInvalid
from replay.ticket.facts import command_for
from replay.ticket.presign import presigned
from replay.ticket.tracker import Address, Filed, Placed, Tracker

__all__ = ["Ticket", "connect", "file_ticket"]

#: A signed link takes some five hundred characters.
_LINK_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """An incident, ready to be filed."""

    document: Document  #: without a word of where the bundle is
    location: str  #: of the bundle: a path, or s3://…
    attachment: Attachment | None  #: None: it is not to be attached
    picture: Picture | None = None
    presign_seconds: int | None = None

    @property
    def is_remote(self) -> bool:
        """Whether others can reach the location."""
        return "://" in self.location

    def composed(self, attached: bool, why_not: str = "", link: str | None = None) -> Document:
        """Return what to say when the bundle is on the ticket, or is not."""
        held: Line
        if attached and self.attachment is not None:
            held = ("attached to this ticket as ", claim(self.attachment.name, 210))
            command = command_for(self.attachment.name)
        elif self.is_remote:
            held = ("at ", claim(self.location, 500), *((f"; not attached: {why_not}",) if why_not else ()))
            command = command_for(self.location)
        else:
            name = self.location.rpartition("/")[2]
            held = (f"not attached{': ' + why_not if why_not else ''}; ask who filed this for ", claim(name, 210))
            command = command_for(name)
        facts = [*self.document.facts, Fact("Held", held)]
        if link is not None:
            facts.append(Fact("Link, for a while", (Claim(link),)))
        return replace(self.document, facts=tuple(facts), command=command)


def connect(address: Address, url: str | None, timeout_seconds: float) -> Tracker:
    """Return the tracker of an address; nothing is sent yet.

    Raises:
        AddressInvalid: its URL or its credentials are missing or cannot be used.
    """
    from replay.ticket.trackers.github import GitHub
    from replay.ticket.trackers.gitlab import GitLab
    from replay.ticket.trackers.jira import Jira
    from replay.ticket.trackers.jira_server import JiraServer
    from replay.ticket.trackers.slack import Slack
    from replay.ticket.trackers.webhook import Webhook

    kinds: dict[str, Callable[[Address, str | None, float], Tracker]] = {
        "github": GitHub.at,
        "gitlab": GitLab.at,
        "jira": Jira.at,
        "jira-server": JiraServer.at,
        "slack": Slack.at,
        "webhook": Webhook.at,
    }
    return kinds[address.tracker](address, url, timeout_seconds)


def file_ticket(ticket: Ticket, tracker: Tracker) -> tuple[Filed, str]:
    """File, or update what is filed; also return why the bundle is not attached, "" where it is.

    Raises:
        AddressInvalid: the tracker knows neither us nor the address, or a link was asked for in public.
        TrackerUnavailable: it cannot be reached, or refuses.
    """
    link = None
    if ticket.presign_seconds is not None:
        if not ticket.is_remote:
            raise AddressInvalid(
                "--presign needs a bundle in a bucket (s3://…); a local file has no address for others"
            )
        if tracker.is_public():
            raise AddressInvalid(
                f"--presign is refused: strangers may read {tracker.client.target} on {tracker.name}, "
                "and the link needs no credentials"
            )
        link = presigned(ticket.location, ticket.presign_seconds)
    attachment, why_not = ticket.attachment, ""
    if attachment is None:
        why_not = "it was not asked for"
    elif not tracker.takes_files:
        attachment, why_not = None, f"{tracker.name} takes no files from programs"
    elif attachment.size_bytes > (limit := tracker.limit_bytes()):
        attachment = None
        why_not = f"{size(ticket.attachment.size_bytes) if ticket.attachment else ''} is more than the {size(limit)} "
        why_not += f"that {tracker.name} takes"
    placed = Placed(
        compose=lambda attached: ticket.composed(attached, why_not, link),
        attachment=attachment,
        picture=ticket.picture,
    )
    return tracker.file(placed), why_not
