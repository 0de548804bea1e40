"""What the server answers with: the list, an incident's page, a thumbnail; made when asked for, kept within bounds."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recorder.bundle.errors import BundleError
from replay.live.incidents import Incidents, Row, matching
from replay.opening import Opening
from replay.report.pictures import picture
from replay.result import result_path
from replay.show.text import inert

__all__ = ["Kept", "Pages"]

#: Pages kept: a report is 8 MB at most. Thumbnails are 24 KB at most: noise, which is the worst, still fits.
_PAGES_BYTES, _THUMBNAILS_BYTES = 64 * 2**20, 8 * 2**20
_THUMBNAIL_BYTES, _THUMBNAIL_SIDE = 8_000, 256

#: Choices of one filter.
_CHOICES = 200


class Kept:
    """The answers asked for last, up to so many bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._answers: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """Return what is kept, else make it: one at a time, for each takes as much memory as a bundle's frames."""
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
            made = make()
            self._answers[key] = made
            self._bytes += len(made)
            while self._bytes > self._max_bytes and self._answers:
                self._bytes -= len(self._answers.popitem(last=False)[1])
            return made


class Pages:
    """The pages of one sink. Safe to use from several threads."""

    def __init__(
        self, sink: str, opening: Opening, report: Callable[[str], bytes], since: Callable[[str], int]
    ) -> None:
        """Take how a report is made of a location, and how a point in time is read (it raises ValueError)."""
        self._sink, self._opening, self._report, self._since = sink, opening, report, since
        self._incidents = Incidents(sink, opening)
        self._pages, self._thumbnails = Kept(_PAGES_BYTES), Kept(_THUMBNAILS_BYTES)
        self._style = resources.files("replay.live").joinpath("list.css").read_text("utf-8")
        loader = PackageLoader("replay.live", ".")
        environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        self._template = environment.get_template("list.html")

    @property
    def policy(self) -> str:
        """Of the list: its own style, thumbnails of this server and a form that leads back to it; no script at all."""
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode("ascii")
        return (
            f"default-src 'none'; img-src 'self' data:; style-src 'sha256-{digest}'; "
            "form-action 'self'; base-uri 'none'"
        )

    def incident(self, key: str) -> Row | None:
        """Return the incident of a key in an address."""
        return self._incidents.find(key)

    def list(self, asked: Mapping[str, str]) -> bytes:
        """Return the list that a form asks for."""
        rows = self._incidents.rows()
        problems, since_ns = [self._incidents.problem] if self._incidents.problem else [], None
        if asked.get("since"):
            try:
                since_ns = self._since(asked["since"])
            except (ValueError, OverflowError):
                problems.append('"since" takes 90s, 15m, 1h, 2d or a date such as 2026-01-31: all times are shown.')
        text = self._template.render(
            style=Markup(self._style),  # noqa: S704  our own file, word for word: the policy allows no other
            sink=inert(self._sink, 200),
            rows=matching(rows, asked, since_ns),
            total=len(rows),
            left_out=self._incidents.left_out,
            problems=problems,
            asked={name: inert(value, 200) for name, value in asked.items()},
            filters=[
                ("cause", _choices(row.summary.cause for row in rows)),
                ("kind", _choices(row.summary.kind for row in rows)),
                ("model", _choices(model for row in rows for model in row.summary.models)),
                ("stream", _choices(row.summary.stream for row in rows)),
            ],
        )
        return text.encode("utf-8", "replace")

    def report(self, row: Row) -> bytes:
        """Return an incident's page; a replay saved since makes it anew.

        Raises:
            BundleError: the bundle cannot be read any more.
        """
        result = result_path(row.location)
        stamp = result.stat().st_mtime_ns if result.exists() else 0
        return self._pages.get((row.key, row.summary.bundle, stamp), lambda: self._report(row.location))

    def thumbnail(self, row: Row) -> bytes:
        """Return the frame that triggered, else the first, as a small JPEG made of its pixels; empty where none is."""
        return self._thumbnails.get((row.key, row.summary.bundle), lambda: self._thumbnail(row.location))

    def _thumbnail(self, location: str) -> bytes:
        with self._opening.open(location) as bundle:
            triggers = bundle.manifest.incident.triggers
            wanted = triggers[0].frame if triggers else None
            frames = [frame for frame in bundle.manifest.frames if frame.images]
            frame = next((each for each in frames if each.id == wanted), frames[0] if frames else None)
            try:
                made = picture(bundle.pixels(frame.images[0]), _THUMBNAIL_BYTES, _THUMBNAIL_SIDE) if frame else None
            except BundleError:
                made = None
        return b"" if made is None else base64.b64decode(made.uri.partition(",")[2])


def _choices(values: Iterable[str]) -> list[str]:
    return sorted({value for value in values if value})[:_CHOICES]
