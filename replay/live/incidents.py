"""What the list shows: read once per bundle, looked for again when it is asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recorder.bundle.errors import BundleError
from recorder.bundle.reader import Bundle
from recorder.sinks import BundleListing
from recorder.sinks.s3.address import is_s3
from replay.listing import bundles_of, read_each
from replay.opening import Opening
from replay.show.text import inert, utc

__all__ = ["MAX_INCIDENTS", "Incidents", "Row", "Summary", "matching"]

#: The newest so many are listed, about 1 KB each; older ones are counted.
MAX_INCIDENTS = 2000

#: A sink is listed at most this often, however many ask: a listing of a bucket costs money.
_DIRECTORY_SECONDS, _BUCKET_SECONDS = 1.0, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a bundle says of itself. Every text is inert and short; of one that cannot be read all are empty."""

    opened_ns: int
    bundle: str = ""  #: its id
    stream: str = ""
    kind: str = ""
    reason: str = ""
    cause: str = ""
    models: tuple[str, ...] = ()
    frames: int = 0

    @property
    def opened(self) -> str:
        """When, for people."""
        return utc(self.opened_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One bundle of the list."""

    key: str  #: what its addresses are made of; says nothing of where the bundle is
    location: str
    name: str
    summary: Summary
    problem: str = ""  #: why it cannot be read


class Incidents:
    """The incidents of one sink. Safe to use from several threads."""

    def __init__(self, sink: str, opening: Opening) -> None:
        self._sink, self._opening = sink, opening
        self._lock = threading.Lock()
        self._read: dict[BundleListing, Row] = {}
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
            return sorted(self._read.values(), key=lambda row: (row.summary.opened_ns, row.key), reverse=True)

    def find(self, key: str) -> Row | None:
        """Return the incident of a key that came from outside; None where none has it."""
        with self._lock:
            return next((row for row in self._read.values() if row.key == key), None)

    def _look(self) -> None:
        try:
            places = sorted(bundles_of(self._sink), key=lambda place: (place.modified, place.location), reverse=True)
        except BundleError as error:
            self.problem = inert(error, 400)
            return
        self.problem, self.left_out = "", max(0, len(places) - MAX_INCIDENTS)
        known = self._read
        new = [place for place in places[:MAX_INCIDENTS] if place not in known]
        read = dict(zip(new, self._rows_of(new), strict=True))
        self._read = {place: known.get(place) or read[place] for place in places[:MAX_INCIDENTS]}

    def _rows_of(self, places: Sequence[BundleListing]) -> list[Row]:
        try:
            found: list[Summary | BundleError] = list(read_each(places, self._opening, _summary))
        except Exception as error:  # noqa: BLE001  a sentence is shown for it, whatever it was
            if len(places) > 1:  # a stranger's file must not take the list down, whatever it found in the reader
                return [row for place in places for row in self._rows_of([place])]
            found = [BundleError(f"it cannot be read ({type(error).__name__})")]
        return [_row(place, each) for place, each in zip(places, found, strict=True)]


def _summary(bundle: Bundle) -> Summary:
    incident, models = bundle.manifest.incident, bundle.manifest.models[:8]
    first = incident.triggers[0] if incident.triggers else None
    return Summary(
        bundle=bundle.id,
        opened_ns=incident.opened_ns,
        stream=inert(incident.stream, 60),
        kind=inert(first.kind, 40) if first else "",
        reason=inert(first.reason, 200) if first else "",
        cause=inert(incident.cause.get("cause") or "", 40) if incident.cause else "",
        models=tuple(dict.fromkeys(inert(model.name, 60) for model in models)),
        frames=len(bundle.manifest.frames),
    )


def _row(place: BundleListing, found: Summary | BundleError) -> Row:
    summary = found if isinstance(found, Summary) else Summary(opened_ns=int(place.modified * 1e9))
    return Row(
        key=hashlib.sha256(place.location.encode("utf-8", "surrogateescape")).hexdigest()[:24],
        location=place.location,
        name=inert(place.location.rpartition("/")[2], 100),
        summary=summary,
        problem=inert(found, 400) if isinstance(found, BundleError) else "",
    )


def matching(rows: list[Row], asked: Mapping[str, str], since_ns: int | None) -> list[Row]:
    """Return the rows that a form asks for.

    Args:
        rows: all there are.
        asked: cause, kind, model, stream (equal) and text (anywhere, whatever its case); empty or missing: any.
        since_ns: opened then or later.
    """
    return [row for row in rows if _is_wanted(row, asked, since_ns)]


def _is_wanted(row: Row, asked: Mapping[str, str], since_ns: int | None) -> bool:
    summary = row.summary
    texts = (row.name, row.problem, summary.reason, summary.stream, summary.kind, summary.cause, *summary.models)
    return (
        all(not asked.get(name) or getattr(summary, name) == asked[name] for name in ("cause", "kind", "stream"))
        and (not asked.get("model") or asked["model"] in summary.models)
        and (since_ns is None or summary.opened_ns >= since_ns)
        and asked.get("text", "").casefold() in " ".join(texts).casefold()
    )
