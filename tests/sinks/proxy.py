"""An HTTP proxy before the S3 server, through which tests do harm."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Fault", "FaultyProxy", "Request"]


class Request:
    """What comes by: ``number`` counts requests from 0."""

    def __init__(self, number: int, method: str, path: str, body: bytes) -> None:
        self.number, self.method, self.path, self.body = number, method, path, body


#: Called with each request: None lets it through, "reset" breaks the connection in the middle of the request's body,
#: "lost-answer" carries it out and breaks the connection, "cut" breaks it in the middle of the answer's body, "corrupt"
#: flips a bit of the request's body, "slow" takes its time, and "503 SlowDown" answers so.
Fault = Callable[[Request], str | None]


class FaultyProxy:
    """A context manager; clients go to ``url``."""

    def __init__(self, port: int) -> None:
        self.fault: Fault = lambda request: None
        self.requests: list[Request] = []
        self.answered_bytes = 0
        self._lock = threading.Lock()
        self._upstream = port
        self._kept = _bound(0)
        self._server = self._serve(self._kept)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._kept.close()

    def refuse(self) -> None:
        """Stop listening: connections are refused from now on. The port stays ours, or another process might get it."""
        self._server.shutdown()
        self._server.server_close()
        self._kept.close()
        self._kept = _bound(self.port)

    def accept(self) -> None:
        """Listen again."""
        self._server = self._serve(self._kept)

    def forget(self) -> None:
        """Count from nothing."""
        self.requests, self.answered_bytes = [], 0

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Carry out one request, or what the fault says instead."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._lock:
            request = Request(len(self.requests), handler.command, handler.path, body)
            self.requests.append(request)
            told = self.fault(request)
        if told == "reset":
            _reset(handler)
            return
        if told is not None and told[:3].isdigit():
            code = told[4:]
            text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
            _answer(handler, int(told[:3]), [("Content-Type", "application/xml")], text)
            return
        if told == "slow":
            time.sleep(0.3)
        if told == "corrupt" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=60)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() != "expect"}
            upstream.request(handler.command, handler.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
        except OSError:
            _reset(handler)
            return
        finally:
            upstream.close()
        if told == "lost-answer":
            _reset(handler)
            return
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else None
        passed = [(n, v) for n, v in answer.getheaders() if n.lower() not in ("content-length", "connection", "date")]
        self.answered_bytes += len(content)
        _answer(handler, answer.status, passed, content, length, cut=told == "cut")

    def _serve(self, place: socket.socket) -> ThreadingHTTPServer:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None: ...

        server = Server(place.getsockname(), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = place
        server.server_activate()
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True).start()
        return server


def _bound(port: int) -> socket.socket:
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", port))
    return place


def _answer(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    content: bytes,
    length: str | None = None,
    cut: bool = False,
) -> None:
    handler.send_response_only(status)
    for name, value in headers:
        handler.send_header(name, value)
    if status != 204:
        handler.send_header("Content-Length", length or str(len(content)))
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.close_connection = True
    if handler.command != "HEAD":
        handler.wfile.write(content[: len(content) // 2] if cut else content)
    if cut:
        _reset(handler)


def _reset(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
