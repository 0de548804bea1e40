"""The server of the list: for one person on this machine, whom a token in the first address lets in."""

from __future__ import annotations

import errno
import secrets
import socket
import socketserver
import threading
from http.server import ThreadingHTTPServer

from recorder.bundle.errors import BundleUnavailable
from replay.live.handler import Handler
from replay.live.hosts import Place
from replay.live.pages import Pages

__all__ = ["Server"]

#: Connections at a time; a browser opens six. More are closed at once, and come again.
_CONNECTIONS = 24

_REMEDIES = {errno.EADDRINUSE: "--port 0 takes a free one", errno.EACCES: "take a port from 1024"}


class Server(ThreadingHTTPServer):
    """Serves pages until it is interrupted."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = _CONNECTIONS

    def __init__(self, pages: Pages, host: str, port: int) -> None:
        """Bind; port 0 is any free one.

        Raises:
            BundleUnavailable: the address cannot be had.
        """
        self.pages, self.token = pages, secrets.token_urlsafe(32)
        self.place = Place(host, port)
        self.address_family = self.place.family
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        try:
            super().__init__(self.place.address[:2], Handler)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "leave --host and --port out to listen on 127.0.0.1")
            raise BundleUnavailable(
                f"{host} port {port} cannot be listened on: {error.strerror or error}; {remedy}"
            ) from error

    def server_bind(self) -> None:
        """Bind, ``::`` for both kinds of addresses; nobody is asked for the name of an address."""
        if self.address_family == socket.AF_INET6 and self.place.is_everywhere:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.server_address = self.place.address
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.place.shown, self.port

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open on this machine; who has it may look."""
        return f"http://{self.place.shown}:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Its name: browsers send a cookie to every port of a host, so each server needs one of its own."""
        return f"replay-{self.port}"

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Answer in a thread, if there is room for one."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # this machine gives no thread
            self._room.release()
            self.shutdown_request(request)

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
