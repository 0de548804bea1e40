"""How one request is answered: only to who knows the token and names this server, and within a time."""

from __future__ import annotations

import hashlib
import hmac
import io
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from recorder.bundle.errors import BundleError
from replay.live.incidents import Row
from replay.live.kept import Busy
from replay.report.page import policy
from replay.show.text import inert

if TYPE_CHECKING:
    from replay.live.server import Server

__all__ = ["Handler"]

#: A browser asks at once, and who cannot take 8 MB in this time will not wait for them either. Whoever is slower, byte
#: by byte too, loses the connection: it would be one less for others.
_REQUEST_SECONDS, _ANSWER_SECONDS = 5.0, 60.0

_QUERY_CHARACTERS, _FIELD_CHARACTERS, _FIELDS = 4096, 200, 16

_HTML = "text/html; charset=utf-8"

_NO_PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="128" height="96"/>'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes = b""
    form: str = _HTML
    policy: str = "default-src 'none'"
    headers: Mapping[str, str] = field(default_factory=dict)


class Handler(BaseHTTPRequestHandler):
    """Answers one request of one connection."""

    server: Server
    server_version, sys_version = "replay", ""

    def setup(self) -> None:
        """Read with a deadline for the whole request."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Until(self.connection, time.monotonic() + _REQUEST_SECONDS))

    def do_GET(self) -> None:
        """Answer."""
        self._send(self._let_in())

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Say what is no request."""
        self._send(self._say(code, "Only GET and HEAD are answered, and only of HTTP as browsers speak it."))

    def _let_in(self) -> _Answer:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or not self.server.place.is_own(hosts[0]):
            return self._say(403, "This is not the address that the command printed.")
        try:
            address = urlsplit(self.path)
            asked = _fields(address.query)
        except ValueError:
            return self._say(400, "This is no address of a page.")
        if address.path == "/" and "token" in asked:
            if not _same(asked["token"], self.server.token):
                return self._say(
                    403, "The token is not that of this server; open the address that the command printed."
                )
            cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            return _Answer(status=303, headers={"Location": "/", "Set-Cookie": cookie})
        if not self._has_cookie():
            return self._say(403, "Open the address that the command printed: it has a token.")
        try:
            return self._answer(address.path, asked)
        except Busy:
            return self._say(503, "Other pages are being made and take long; try again.", known=True)
        except BundleError as error:
            return self._say(404, f"The incident cannot be shown: {inert(error, 400)}", known=True)
        except Exception as error:  # noqa: BLE001  a sentence is shown for it, whatever it was
            # Whatever a hostile bundle found: the others must still be looked at.
            why = f"The incident cannot be shown ({type(error).__name__}); `replay verify` says more."
            return self._say(500, why, known=True)

    def _answer(self, path: str, asked: dict[str, str]) -> _Answer:
        pages = self.server.pages
        if path == "/":
            body = pages.list(asked)
            tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            if self.headers.get("If-None-Match") == tag:
                return _Answer(status=304, headers={"ETag": tag})
            return _Answer(status=200, body=body, policy=pages.policy, headers={"ETag": tag})
        _, _, rest = path.partition("/")
        kind, _, key = rest.partition("/")
        row = pages.incident(key) if kind in ("incident", "thumbnail") else None
        if row is None:
            return self._say(404, "There is no such page; the incident may have been deleted.", known=True)
        if kind == "thumbnail":
            return self._thumbnail(row)
        if row.problem:
            return self._say(404, f"The incident cannot be shown: {row.problem}", known=True)
        return _Answer(status=200, body=pages.report(row), policy=policy())

    def _thumbnail(self, row: Row) -> _Answer:
        try:  # a list without one of its pictures is a list all the same
            picture = b"" if row.problem else self.server.pages.thumbnail(row)
        except (BundleError, Busy):
            picture = b""
        if not picture:
            return _Answer(status=200, body=_NO_PICTURE, form="image/svg+xml")
        return _Answer(status=200, body=picture, form="image/jpeg")

    def _has_cookie(self) -> bool:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self.server.token)

    def _say(self, status: int, sentence: str, *, known: bool = False) -> _Answer:
        pages = self.server.pages
        return _Answer(status=status, body=pages.sentence(sentence, known=known), policy=pages.policy)

    def _send(self, answer: _Answer) -> None:
        self.connection.settimeout(_ANSWER_SECONDS)  # for all of it: see socket.sendall
        self.close_connection = True
        self.send_response(answer.status)
        headers = {
            "Content-Type": answer.form,
            "Content-Length": str(len(answer.body)),
            "Content-Security-Policy": f"{answer.policy}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        if answer.status == 304:
            del headers["Content-Type"], headers["Content-Length"]
        for name, value in (headers | dict(answer.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: addresses hold the token."""


class _Until(io.RawIOBase):
    """What a connection brings until a point in time (of `time.monotonic`), however it is spread."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _fields(query: str) -> dict[str, str]:
    """The fields of a form; ValueError where there are more, or longer ones, than the form has."""
    if len(query) > _QUERY_CHARACTERS:
        raise ValueError(query)
    return {name: value[:_FIELD_CHARACTERS] for name, value in parse_qsl(query, max_num_fields=_FIELDS)}


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
