"""One ticket for one defect and hour, across all machines that share a sink; the rest is counted on it.

Who files is who takes the claim first: a small file that a sink makes for exactly one writer. What a claim says was
written by whoever can write to the sink, so it is checked like anything else.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from recorder.bundle import strictjson
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import Incident
from recorder.sinks import Claims
from replay.ticket.document import Claim, Document, claim
from replay.ticket.facts import recurrence
from replay.ticket.tracker import Filed, Placed, Tracker

__all__ = ["Occasion", "file_once"]

_HEX = re.compile(r"[0-9a-f]{64}")
_MAX_CLAIM_BYTES = 4096
#: Named on the ticket; all are counted.
_SHOWN = 20
#: How often the count is written again because it grew meanwhile.
_MAX_ROUNDS = 5


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
    holder = None
    took = claims.take(occasion.key, occasion.to_bytes())
    if not took:
        holder = _read(claims, occasion.key)
    if took or holder is None or holder[1] == occasion.bundle:
        try:
            return file(), None
        except BaseException:
            if took:
                claims.drop(occasion.key)
            raise
    prefix = f"{occasion.key}."
    claims.take(prefix + occasion.incident, occasion.to_bytes())
    first = holder[1]
    document_id = hashlib.sha256(f"recurrence {first}".encode()).hexdigest()
    counted = 0
    filed = Filed(updated=True, attached=False)
    for _ in range(_MAX_ROUNDS):
        names = claims.names(prefix)
        if len(names) <= counted:
            break  # whoever adds one after us writes the count after us, too
        counted = len(names)
        read = [each for name in names[-_SHOWN:] if (each := _read(claims, name)) is not None]
        seen = [(opened_ns, bundle, location) for opened_ns, bundle, location in sorted(read, key=lambda each: each[0])]
        document = recurrence(document_id, first, seen, counted)
        filed = tracker.file(Placed(compose=_always(document)))
    return filed, first


def _always(document: Document) -> Callable[[bool], Document]:
    return lambda attached: document


def _read(claims: Claims, name: str) -> tuple[int, str, Claim] | None:
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
    return opened_ns, bundle, claim(location, 300)
