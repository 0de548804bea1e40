"""What the list shows: read once per bundle, looked for again when it is asked for."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recorder.bundle.errors import BundleError, BundleUnavailable
from recorder.bundle.reader import Bundle
from recorder.sinks import BundleListing
from recorder.sinks.s3.address import is_s3
from recorder.sinks.s3.source import reading_client
from replay.listing import bundles_of
from replay.opening import Opening
from replay.show.text import inert, utc

__all__ = ["MAX_INCIDENTS", "Incidents", "Listed", "Row", "Summary", "matching"]

#: The newest so many are listed, about 1 KB each; older ones are counted.
MAX_INCIDENTS = 2000

#: A sink is listed at most this often, however many ask: a listing of a bucket costs money.
_DIRECTORY_SECONDS, _BUCKET_SECONDS = 1.0, 10.0

#: So long a list waits for what is new; what takes longer is in a later one.
_PATIENCE_SECONDS = 1.0

#: What takes longer than this to list is said to; most buckets take a second.
_LONG_SECONDS = 30.0

#: As many connections as the S3 client keeps.
_READERS = 8


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
    version: str  #: of the bytes that stand there
    problem: str = ""  #: why it cannot be read
    is_passing: bool = False  #: the problem is with getting it, not with what it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What is known of a sink now."""

    rows: list[Row]  #: newest first
    left_out: int  #: incidents beyond `MAX_INCIDENTS`
    unread: int  #: listed, but not looked into yet
    is_complete: bool  #: not while the sink is listed for the first time, or while some are unread
    problem: str  #: why the sink could not be listed the last time; the rows are those known before


class Incidents:
    """The incidents of one sink. Safe to use from several threads: none waits for the sink longer than a moment."""

    def __init__(self, sink: str, opening: Opening) -> None:
        self._sink, self._opening = sink, opening
        self._lock = threading.Lock()  # held for what takes no time: never while a sink is listed or read
        self._rows: dict[BundleListing, Row] = {}
        self._left_out = self._unread = 0
        self._problem = ""
        self._began = 0.0
        self._looked: float | None = None
        self._looking: threading.Thread | None = None

    def listed(self) -> Listed:
        """Return what is known, after looking again where it is time; a slow sink is looked through meanwhile."""
        with self._lock:
            pause = _BUCKET_SECONDS if is_s3(self._sink) else _DIRECTORY_SECONDS
            due = self._looked is None or time.monotonic() - self._looked >= pause
            if self._looking is None and due:
                thread = threading.Thread(target=self._look, name="incidents", daemon=True)
                thread.start()
                self._looking, self._began = thread, time.monotonic()
            looking = self._looking
        if looking is not None:
            looking.join(_PATIENCE_SECONDS)
        with self._lock:
            rows = sorted(self._rows.values(), key=lambda row: (row.summary.opened_ns, row.key), reverse=True)
            hangs = self._looking is not None and time.monotonic() - self._began > _LONG_SECONDS and not self._unread
            return Listed(
                rows=rows,
                left_out=self._left_out,
                unread=self._unread,
                is_complete=self._unread == 0 and (self._looking is None or bool(rows)),
                problem="Listing takes long: this is what was known before" if hangs and rows else self._problem,
            )

    def find(self, key: str) -> Row | None:
        """Return the incident of a key that came from outside; None where none has it."""
        with self._lock:
            return next((row for row in self._rows.values() if row.key == key), None)

    def look_again(self) -> None:
        """Let the next list look at once: something is not as it was listed."""
        with self._lock:
            self._looked = None

    def _look(self) -> None:
        problem = ""
        try:
            places = sorted(bundles_of(self._sink), key=lambda place: (place.modified, place.location), reverse=True)
            self._read(places)
        except BundleError as error:
            problem = inert(error, 400)
        except Exception as error:  # noqa: BLE001  a sentence is shown for it, whatever it was
            problem = f"The incidents cannot be listed ({type(error).__name__}); `replay ls` says more"
        finally:
            if is_s3(self._sink) and (problem or self._passing()):
                reading_client.cache_clear()  # it keeps the credentials it was made with, and these may be renewed
            with self._lock:
                self._problem, self._unread = problem, 0
                self._looked, self._looking = time.monotonic(), None

    def _read(self, places: Sequence[BundleListing]) -> None:
        listed = places[:MAX_INCIDENTS]
        with self._lock:
            self._rows = {place: self._rows[place] for place in listed if place in self._rows}
            new = [place for place in listed if place not in self._rows]
            self._left_out = len(places) - len(listed)
        self._read_each(new)
        # What could not be had may be there now; one of them tells, lest a store that refuses is asked for all of them.
        if passing := self._passing():
            self._read_each([one := random.choice(passing)])  # noqa: S311  nobody gains by guessing it
            if one not in self._passing():
                self._read_each([place for place in passing if place != one])

    def _passing(self) -> list[BundleListing]:
        with self._lock:
            return [place for place, row in self._rows.items() if row.is_passing]

    def _read_each(self, places: Sequence[BundleListing]) -> None:
        waiting = iter(places)
        with self._lock:
            self._unread = len(places)

        def work() -> None:
            while True:
                with self._lock:
                    place = next(waiting, None)
                if place is None:
                    return
                row = _row(place, self._summary_of(place))
                with self._lock:
                    self._rows[place] = row
                    self._unread -= 1

        # A bucket answers many at a time; of a disk, one after the other is quickest. Ctrl-C waits for none of them.
        readers = [threading.Thread(target=work, daemon=True) for _ in range(_READERS if is_s3(self._sink) else 1)]
        for reader in readers[: len(places)]:
            reader.start()
        for reader in readers[: len(places)]:
            reader.join()

    def _summary_of(self, place: BundleListing) -> Summary | BundleError:
        try:
            with self._opening.open(place.location) as bundle:
                return _summary(bundle)
        except BundleError as error:
            return error
        except Exception as error:  # noqa: BLE001  a stranger's file takes no list down, whatever it found in the reader
            return BundleError(f"it cannot be read ({type(error).__name__})")


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
        version=f"{summary.bundle} {place.size_bytes} {place.modified}",
        problem=inert(found, 400) if isinstance(found, BundleError) else "",
        is_passing=isinstance(found, BundleUnavailable),
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
