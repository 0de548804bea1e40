"""What a tracker is, and how `--to` names one."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from replay.ticket.attachment import Attachment
from replay.ticket.document import Document, Picture
from replay.ticket.errors import AddressInvalid
from replay.ticket.http import Client, checked_url

__all__ = ["Address", "Filed", "Placed", "Tracker", "base_url", "parse_address", "secret"]

_GROUP = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
#: Which form an address has after "tracker:"; every part goes into a path of the API, so it is a closed grammar.
_FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    "github": (re.compile(r"([A-Za-z0-9][A-Za-z0-9-]{0,38})/([A-Za-z0-9._-]{1,100})#([0-9]{1,9})"), "owner/repo#1"),
    "gitlab": (re.compile(rf"({_GROUP}(?:/{_GROUP})+)#([0-9]{{1,9}})"), "group/project#1"),
    "jira": (re.compile(r"([A-Z][A-Z0-9_]{1,50}-[0-9]{1,9})"), "KEY-1"),
    "jira-server": (re.compile(r"([A-Z][A-Z0-9_]{1,50}-[0-9]{1,9})"), "KEY-1"),
    "slack": (re.compile(r"(#[^\s#@<>&:,/]{1,80}|[CG][A-Z0-9]{6,20})"), "#channel"),
    "webhook": (re.compile(r"(https?://\S{1,2000})"), "https://host/path"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """A place on a tracker."""

    tracker: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.tracker}:{'#'.join(self.parts)}"


def parse_address(text: str) -> Address:
    """Read ``tracker:place``.

    Raises:
        AddressInvalid: it is none.
    """
    tracker, _, place = text.partition(":")
    if tracker not in _FORMS:
        raise AddressInvalid(f"--to names no tracker; one of {', '.join(f'{n}:{_FORMS[n][1]}' for n in _FORMS)}")
    pattern, example = _FORMS[tracker]
    match = pattern.fullmatch(place)
    if match is None or ".." in place.partition("://")[0]:
        raise AddressInvalid(f"--to {tracker}:… must read {tracker}:{example}")
    return Address(tracker, match.groups())


def base_url(tracker: str, given: str | None, default: str | None, environment: Mapping[str, str] | None = None) -> str:
    """Return where a tracker's API begins: ``--url``, else ``REPLAY_<TRACKER>_URL``, else the public one.

    Raises:
        AddressInvalid: there is none, or it cannot be used.
    """
    variable = f"REPLAY_{tracker.upper().replace('-', '_')}_URL"
    url = given or (os.environ if environment is None else environment).get(variable) or default
    if not url:
        raise AddressInvalid(f"{tracker} has no address of its own: give --url or set {variable}")
    return checked_url(url, "--url" if given else variable)


def secret(*names: str, what: str) -> str:
    """Return a secret from the environment.

    Raises:
        AddressInvalid: none of the variables is set, or it holds what no header may.
    """
    for name in names:
        if value := os.environ.get(name, "").strip():
            if not value.isascii() or not value.isprintable():
                raise AddressInvalid(f"{name} holds characters that no token has; set it anew")
            return value
    raise AddressInvalid(f"{what} is missing: set the environment variable {' or '.join(names)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What is to be filed. ``compose`` is told whether the bundle is on the ticket, and returns what to say then."""

    compose: Callable[[bool], Document]
    attachment: Attachment | None = None
    picture: Picture | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """What became of it."""

    updated: bool  #: whether a comment was there already
    attached: bool  #: whether the bundle is on the ticket
    url: str | None = None  #: of the comment, as the tracker says


class Tracker(ABC):
    """A place that takes documents. A second one of the same id replaces the first."""

    name: ClassVar[str]  #: how it is called in sentences
    takes_files: ClassVar[bool] = True

    def __init__(self, client: Client) -> None:
        self.client = client

    @abstractmethod
    def limit_bytes(self) -> int:
        """The largest file it takes."""

    @abstractmethod
    def is_public(self) -> bool:
        """Whether strangers can read what is filed; True where it cannot be known."""

    @abstractmethod
    def file(self, placed: Placed) -> Filed:
        """Write the comment, or update the one that is there.

        Raises:
            AddressInvalid: the tracker knows neither us nor the address.
            TrackerUnavailable: it cannot be reached, or refuses.
        """
