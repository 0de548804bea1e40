"""One ticket for one defect and hour, across all machines that share a sink; the rest is counted on it.

Who files is who takes the claim first: a small file that a sink makes for exactly one writer. What a claim says was
written by whoever can write to the sink, so it is checked like anything else.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recorder.bundle import strictjson
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import Incident
from recorder.sinks import Claims, SinkUnavailable
from replay.ticket.document import Claim, Document, claim
from replay.ticket.errors import TrackerUnavailable
from replay.ticket.facts import recurrence
from replay.ticket.tracker import Filed, Placed, Tracker

__all__ = ["Occasion", "file_once"]

_HEX = re.compile(r"[0-9a-f]{64}")
_MAX_CLAIM_BYTES = 4096
#: Named on the ticket; all are counted.
_SHOWN = 20
#: How often the count is written again because it grew meanwhile, or a claim tried again that was given back.
_MAX_ROUNDS = 5
#: Who counts has the comment to itself, for a few requests: others wait so long, and longer than that it has died.
_PATIENCE_SECONDS, _TURN_SECONDS = 60.0, 300.0
_LOOK_SECONDS = 0.1


#: What a claim says: time and id of a bundle, and where it is.
_Claimed = tuple[int, str, Claim]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """One incident, as a claim sees it."""

    key: str  #: of the defect, the ticket and the hour
    incident: str  #: id of the incident
    bundle: str
    location: str
    opened_ns: int

    @classmethod
    def of(cls, incident: Incident, bundle: str, location: str, target: str) -> Occasion:
        """Name the occasion: an incident without a signature is a defect of its own."""
        defect = hashlib.sha256(f"{target}\n{incident.signature or incident.id}".encode()).hexdigest()[:24]
        opened_ns = min(max(0, incident.opened_ns), 2**62)
        hour = time.strftime("%Y%m%d%H", time.gmtime(opened_ns // 10**9))
        return cls(key=f"{defect}-{hour}", incident=incident.id, bundle=bundle, location=location, opened_ns=opened_ns)

    def to_bytes(self) -> bytes:
        """What the claim holds."""
        said = {"bundle": self.bundle, "location": self.location[:1000], "opened_ns": self.opened_ns}
        return json.dumps(said).encode()


def file_once(
    occasion: Occasion, claims: Claims, tracker: Tracker, file: Callable[[], Filed]
) -> tuple[Filed, str | None]:
    """File the first incident of an occasion, count later ones; also return whose ticket it is, None for our own.

    A run that fails gives its claim back, so that the next incident files. The same bundle may come again: it updates.

    Raises:
        AddressInvalid: the tracker knows neither us nor the address.
        TrackerUnavailable: it cannot be reached, or refuses.
        SinkUnavailable: the sink cannot hold claims.
    """
    took, holder = _claimed(occasion, claims)
    if took or holder is None or holder[1] == occasion.bundle:
        try:
            return file(), None
        except BaseException:
            if took:
                _drop(occasion.key, claims)
            raise
    prefix = f"{occasion.key}."
    claims.take(prefix + occasion.incident, occasion.to_bytes())
    first = holder[1]
    document_id = hashlib.sha256(f"recurrence {first}".encode()).hexdigest()
    counted = 0
    filed = Filed(updated=True, attached=False)
    with _turn(f"{occasion.key}-count", claims):  # no tracker makes a comment only where there is none
        for _ in range(_MAX_ROUNDS):
            names = claims.names(prefix)
            if len(names) <= counted:
                break  # whoever adds one after us writes the count after us, too
            counted = len(names)
            read = [each for name in names[-_SHOWN:] if (each := _read(claims, name)) is not None]
            document = recurrence(document_id, holder, sorted(read, key=lambda each: each[0]), counted)
            filed = tracker.file(Placed(compose=_always(document)))
    return filed, first


def _claimed(occasion: Occasion, claims: Claims) -> tuple[bool, _Claimed | None]:
    """Whether the claim is ours, else whose it is; None for one that says nothing usable."""
    for _ in range(_MAX_ROUNDS):
        if claims.take(occasion.key, occasion.to_bytes()):
            return True, None
        if claims.read(occasion.key):
            break
        time.sleep(_LOOK_SECONDS)  # given back just now, or, without hard links, not written yet
    return False, _read(claims, occasion.key)


@contextmanager
def _turn(name: str, claims: Claims) -> Iterator[None]:
    """Hold a claim for a while, as the only one."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    # Not as others write it: a sink takes what it finds for ours when it is what we wrote.
    while not claims.take(name, json.dumps({"began": time.time(), "by": secrets.token_hex(8)}).encode()):
        if _has_ended(claims.read(name)):
            if not _drop(name, claims):
                break  # two may count then, which is better than nobody
        elif time.monotonic() > deadline:
            raise TrackerUnavailable("others are counting the same incident on the ticket; try again later")
        else:
            time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        _drop(name, claims)


def _drop(name: str, claims: Claims) -> bool:
    """Give a claim back, where that is allowed: what went wrong before, or right, is the news."""
    try:
        claims.drop(name)
    except (SinkUnavailable, OSError):
        return False
    return True


def _has_ended(data: bytes | None) -> bool:
    """Whether a turn was never given back: its process died, or somebody else wrote it."""
    try:
        began = strictjson.loads(data or b"{}", "a turn")["began"]
        return data is not None and not abs(time.time() - began) < _TURN_SECONDS
    except (BundleInvalid, KeyError, TypeError):
        return data is not None


def _always(document: Document) -> Callable[[bool], Document]:
    return lambda attached: document


def _read(claims: Claims, name: str) -> _Claimed | None:
    data = claims.read(name)
    if data is None or len(data) > _MAX_CLAIM_BYTES:
        return None
    try:
        said = strictjson.loads(data, "a claim")
    except BundleInvalid:
        return None
    if not isinstance(said, dict):
        return None
    bundle, opened_ns, location = said.get("bundle"), said.get("opened_ns"), said.get("location")
    if not isinstance(bundle, str) or not _HEX.fullmatch(bundle) or not isinstance(location, str):
        return None
    if not isinstance(opened_ns, int) or isinstance(opened_ns, bool) or not 0 <= opened_ns <= 2**62:
        return None
    # Of a local file no more than its name: who reads tickets need not know other machines' directories.
    return opened_ns, bundle, claim(location if "://" in location else location.rpartition("/")[2], 300)
