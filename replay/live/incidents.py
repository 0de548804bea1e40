"""What the list shows: read once per bundle, looked for again when it is asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from recorder.bundle.errors import BundleError
from recorder.sinks.s3.address import is_s3
from replay.listing import Entry, Place, places_of, read_entry
from replay.opening import Opening
from replay.show.text import inert, utc

__all__ = ["MAX_INCIDENTS", "Incidents", "Row", "matching"]

#: The newest so many are listed, about 1 KB each; older ones are counted.
MAX_INCIDENTS = 2000

#: A sink is listed at most this often, however many ask: a listing of a bucket costs money.
_DIRECTORY_SECONDS, _BUCKET_SECONDS = 1.0, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One incident of the list. Every text is inert and short."""

    key: str  #: what its addresses are made of; says nothing of where the bundle is
    location: str
    name: str
    opened_ns: int
    bundle: str = ""  #: its id
    opened: str = ""
    stream: str = ""
    kind: str = ""
    reason: str = ""
    cause: str = ""
    models: tuple[str, ...] = ()
    frames: int = 0
    problem: str = ""  #: why it cannot be read


class Incidents:
    """The incidents of one sink. Safe to use from several threads."""

    def __init__(self, sink: str, opening: Opening) -> None:
        self._sink, self._opening = sink, opening
        self._lock = threading.Lock()
        self._read: dict[Place, Row] = {}
        self._looked: float | None = None
        self.left_out = 0  #: incidents beyond `MAX_INCIDENTS`
        self.problem = ""  #: why the sink could not be listed the last time

    def rows(self) -> list[Row]:
        """Return the incidents, newest first; of a sink that cannot be listed now, those known before."""
        with self._lock:
            pause = _BUCKET_SECONDS if is_s3(self._sink) else _DIRECTORY_SECONDS
            if self._looked is None or time.monotonic() - self._looked >= pause:
                self._look()
                self._looked = time.monotonic()
            return sorted(self._read.values(), key=lambda row: (row.opened_ns, row.key), reverse=True)

    def find(self, key: str) -> Row | None:
        """Return the incident of a key that came from outside; None where none has it."""
        with self._lock:
            return next((row for row in self._read.values() if row.key == key), None)

    def _look(self) -> None:
        try:
            places = sorted(places_of(self._sink), key=lambda place: (place.modified, place.location), reverse=True)
        except BundleError as error:
            self.problem = inert(error, 400)
            return
        self.problem, self.left_out = "", max(0, len(places) - MAX_INCIDENTS)
        known, self._read = self._read, {}
        for place in places[:MAX_INCIDENTS]:
            self._read[place] = known.get(place) or self._row(place)

    def _row(self, place: Place) -> Row:
        key = hashlib.sha256(place.location.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        name, opened_ns = inert(place.location.rpartition("/")[2], 100), int(place.modified * 1e9)
        try:
            entry = read_entry(self._opening, place.location)
        except Exception as error:
            # A stranger's file must not take the list down, whatever it found in the reader.
            entry = BundleError(f"it cannot be read ({type(error).__name__})")
        if not isinstance(entry, Entry):
            return Row(
                key=key, location=place.location, name=name, opened_ns=opened_ns, opened=utc(opened_ns),
                problem=inert(entry, 400),
            )  # fmt: skip
        incident = entry.incident
        first = incident.triggers[0] if incident.triggers else None
        return Row(
            key=key,
            location=place.location,
            name=name,
            bundle=entry.bundle,
            opened_ns=incident.opened_ns,
            opened=utc(incident.opened_ns),
            stream=inert(incident.stream, 60),
            kind=inert(first.kind, 40) if first else "",
            reason=inert(first.reason, 200) if first else "",
            cause=inert(incident.cause.get("cause") or "", 40) if incident.cause else "",
            models=tuple(dict.fromkeys(inert(model.name, 60) for model in entry.manifest.models[:8])),
            frames=len(entry.manifest.frames),
        )


def matching(rows: list[Row], asked: Mapping[str, str], since_ns: int | None) -> list[Row]:
    """Return the rows that a form asks for.

    Args:
        rows: all there are.
        asked: cause, kind, model, stream (equal) and text (anywhere, whatever its case); empty or missing: any.
        since_ns: opened then or later.
    """
    text = asked.get("text", "").casefold()
    return [
        row
        for row in rows
        if all(not asked.get(name) or getattr(row, name) == asked[name] for name in ("cause", "kind", "stream"))
        and (not asked.get("model") or asked["model"] in row.models)
        and (since_ns is None or row.opened_ns >= since_ns)
        and text
        in " ".join((row.name, row.reason, row.problem, row.stream, row.kind, row.cause, *row.models)).casefold()
    ]
