"""What the server answers with: the list, an incident's page, a thumbnail; made when asked for, kept within bounds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from recorder.bundle.errors import BundleError, BundleUnavailable
from recorder.bundle.reader import Bundle
from recorder.sinks.s3.address import is_s3
from replay.live.incidents import Incidents, Row, matching
from replay.live.kept import Kept
from replay.opening import Opening
from replay.report.pictures import picture
from replay.result import result_path
from replay.show.static_page import StaticPage
from replay.show.text import inert

__all__ = ["Pages"]

#: Pages kept: a report is 8 MB at most. Thumbnails are 24 KB at most: noise, which is the worst, still fits.
_PAGES_BYTES, _THUMBNAILS_BYTES = 64 * 2**20, 8 * 2**20
_THUMBNAIL_BYTES, _THUMBNAIL_SIDE = 8_000, 256

#: Made at a time. A page takes the memory of a few frames and their pictures; a thumbnail that of one frame.
_PAGE_MAKERS, _THUMBNAIL_MAKERS = 3, 4

#: Choices of one filter.
_CHOICES = 200

#: An open list asks again so often: as often as it may learn something new, and sooner while bundles are being read.
_DIRECTORY_SECONDS, _BUCKET_SECONDS, _READING_SECONDS = 3, 10, 1


class Pages:
    """The pages of one sink. Safe to use from several threads."""

    def __init__(
        self, sink: str, opening: Opening, report: Callable[[Bundle, str], bytes], since: Callable[[str], int]
    ) -> None:
        """Take how a report is made of a bundle and its location, and how a time is read (it raises ValueError)."""
        self._sink, self._opening, self._report, self._since = sink, opening, report, since
        self._incidents = Incidents(sink, opening)
        self._pages = Kept(_PAGES_BYTES, _PAGE_MAKERS)
        self._thumbnails = Kept(_THUMBNAILS_BYTES, _THUMBNAIL_MAKERS)
        allowed = {"img-src": "'self' data:", "connect-src": "'self'", "form-action": "'self'"}
        self._page = StaticPage("replay.live", script=True, allowed=allowed)
        #: Of the list: its own style and script, and thumbnails, the list and the form of this server.
        self.policy = self._page.policy

    def incident(self, key: str) -> Row | None:
        """Return the incident of a key in an address."""
        return self._incidents.find(key)

    def sentence(self, text: str, *, known: bool) -> bytes:
        """Return a page that says one sentence; to who is let in, also the way to the list."""
        return self._page.render("sentence.html", text=text, known=known).encode("utf-8", "replace")

    def list(self, asked: Mapping[str, str]) -> bytes:
        """Return the list that a form asks for."""
        found = self._incidents.listed()
        problems, since_ns = [found.problem] if found.problem else [], None
        if asked.get("since"):
            try:
                since_ns = self._since(asked["since"])
            except (ValueError, OverflowError):
                problems.append('"since" takes 90s, 15m, 1h, 2d or a date such as 2026-01-31: all times are shown.')
        rows = found.rows
        followed = _BUCKET_SECONDS if is_s3(self._sink) else _DIRECTORY_SECONDS
        return self._page.render(
            sink=inert(self._sink, 200),
            rows=matching(rows, asked, since_ns),
            total=len(rows) + found.unread + found.left_out,
            left_out=found.left_out,
            unread=found.unread,
            complete=found.is_complete,
            seconds=followed if found.is_complete else _READING_SECONDS,
            problems=problems,
            asked={name: inert(value, 200) for name, value in asked.items()},
            filtered=any(asked.values()),
            filters=[
                ("cause", "cause", _choices(row.summary.cause for row in rows)),
                ("trigger", "kind", _choices(row.summary.kind for row in rows)),
                ("model", "model", _choices(model for row in rows for model in row.summary.models)),
                ("camera or stream", "stream", _choices(row.summary.stream for row in rows)),
            ],
        ).encode("utf-8", "replace")

    def report(self, row: Row) -> bytes:
        """Return an incident's page; a replay saved since makes it anew.

        Raises:
            BundleError: the bundle cannot be read any more, or is another than the one listed.
            Busy: others' pages take too long.
        """
        result = result_path(row.location)
        stamp = result.stat().st_mtime_ns if result.exists() else 0

        def make() -> bytes:
            with self._open(row) as bundle:
                return self._report(bundle, row.location)

        return self._pages.get((row.key, row.version, stamp), make)

    def thumbnail(self, row: Row) -> bytes:
        """Return the frame that triggered, else the first, as a small JPEG made of its pixels; empty where none is.

        Raises:
            BundleError, Busy: as `report`.
        """
        return self._thumbnails.get((row.key, row.version), lambda: self._thumbnail(row))

    @contextmanager
    def _open(self, row: Row) -> Iterator[Bundle]:
        try:
            with self._opening.open(row.location) as bundle:
                if bundle.id != row.summary.bundle:
                    raise BundleUnavailable(
                        "another bundle stands in its place since it was listed; see the list again"
                    )
                yield bundle
        except BundleUnavailable:
            self._incidents.look_again()
            raise

    def _thumbnail(self, row: Row) -> bytes:
        with self._open(row) as bundle:
            triggers = bundle.manifest.incident.triggers
            wanted = triggers[0].frame if triggers else None
            frames = [frame for frame in bundle.manifest.frames if frame.images]
            frame = next((each for each in frames if each.id == wanted), frames[0] if frames else None)
            try:
                made = picture(bundle.pixels(frame.images[0]), _THUMBNAIL_BYTES, _THUMBNAIL_SIDE) if frame else None
            except BundleUnavailable:
                raise
            except BundleError:
                made = None
        return b"" if made is None else base64.b64decode(made.uri.partition(",")[2])


def _choices(values: Iterable[str]) -> list[str]:
    return sorted({value for value in values if value})[:_CHOICES]
