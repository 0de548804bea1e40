"""The server of the list: for one person on this machine, whom a token in the first address lets in."""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from recorder.bundle.errors import BundleError, BundleUnavailable
from replay.live.pages import Pages
from replay.report.page import policy
from replay.show.text import inert

__all__ = ["LOOPBACK", "Server"]

LOOPBACK = ("127.0.0.1", "localhost")

#: Connections at a time; a browser opens six. More are closed at once, and come again.
_CONNECTIONS = 24

#: Nobody who looks at a page needs longer between two bytes.
_SILENCE_SECONDS = 20

_QUERY_CHARACTERS, _FIELD_CHARACTERS = 4096, 200


class Server(ThreadingHTTPServer):
    """Serves pages until it is interrupted."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, pages: Pages, host: str, port: int) -> None:
        """Bind; port 0 is any free one.

        Raises:
            BundleUnavailable: the address cannot be had.
        """
        self.pages, self.token, self.host = pages, secrets.token_urlsafe(32), host
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise BundleUnavailable(
                f"{host} port {port} cannot be listened on: {why}; --port 0 takes a free one"
            ) from error

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open; who has it may look."""
        return f"http://{self.host}:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Its name: browsers send a cookie to every port of a host, so each server needs one of its own."""
        return f"replay-{self.port}"

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this server; a name that was rebound to this address does not."""
        return host.lower() in {
            f"{name}:{self.port}" for name in ((*LOOPBACK,) if self.host in LOOPBACK else (self.host,))
        }

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Answer in a thread, if there is room for one."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Answer, then make room."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a browser that goes away midway is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _SILENCE_SECONDS
    server_version, sys_version = "replay", ""

    def do_GET(self) -> None:
        """Answer, only to who knows the token and names this server."""
        if not self.server.is_own(self.headers.get("Host", "")):
            return self._say(403, "This is not the address that the command printed.")
        address = urlsplit(self.path)
        asked = self._asked(address.query)
        if asked is None:
            return self._say(400, "The address is too long.")
        if address.path == "/" and "token" in asked:
            if not _same(asked["token"], self.server.token):
                return self._say(
                    403, "The token is not that of this server; open the address that the command printed."
                )
            cookie = f"{self.server.cookie}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            return self._send(303, b"", "text/plain", extra={"Location": "/", "Set-Cookie": cookie})
        if not self._is_let_in():
            return self._say(403, "Open the address that the command printed: it has a token.")
        try:
            self._answer(address.path, asked)
        except BundleError as error:
            self._say(404, f"The incident cannot be shown: {inert(error, 400)}")
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001  a sentence is shown for it, whatever it was
            # Whatever a hostile bundle found: the others must still be looked at.
            self._say(500, f"The incident cannot be shown ({type(error).__name__}); `replay verify` says more.")
        return None

    do_HEAD = do_GET

    def _answer(self, path: str, asked: dict[str, str]) -> None:
        pages = self.server.pages
        if path == "/":
            return self._send(200, pages.list(asked), "text/html; charset=utf-8", pages.policy)
        _, _, rest = path.partition("/")
        kind, _, key = rest.partition("/")
        row = pages.incident(key) if kind in ("incident", "thumbnail") else None
        if row is None:
            return self._say(404, "There is no such page; the incident may have been deleted.")
        if row.problem:
            return self._say(404, f"The incident cannot be shown: {row.problem}")
        if kind == "incident":
            return self._send(200, pages.report(row), "text/html; charset=utf-8", policy())
        picture = pages.thumbnail(row)
        if not picture:
            return self._send(200, _NO_PICTURE, "image/svg+xml")
        return self._send(200, picture, "image/jpeg")

    def _asked(self, query: str) -> dict[str, str] | None:
        if len(query) > _QUERY_CHARACTERS:
            return None
        try:
            pairs = parse_qsl(query, max_num_fields=16)
        except ValueError:
            return None
        return {name: value[:_FIELD_CHARACTERS] for name, value in pairs}

    def _is_let_in(self) -> bool:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self.server.token)

    def _say(self, status: int, sentence: str) -> None:
        self._send(status, f"{sentence}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def _send(
        self, status: int, body: bytes, form: str, allowed: str = "default-src 'none'",
        extra: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.send_response(status)
        headers = {
            "Content-Type": form,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{allowed}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for name, value in (headers | (extra or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: addresses hold the token."""


_NO_PICTURE = b'<svg xmlns="http://www.w3.org/2000/svg" width="128" height="96"/>'


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
