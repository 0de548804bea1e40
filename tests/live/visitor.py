"""A server of the list in this process, and who asks it for pages."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from unittest import mock

import click

from recorder.bundle import Bundle
from replay.commands.options import parse_since
from replay.live import incidents, pages
from replay.live.pages import Pages
from replay.live.server import Server
from replay.opening import Opening
from replay.report.page import page

__all__ = ["Visitor", "served"]


class Visitor:
    """Asks a server for pages."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cookie = f"{server.cookie}={server.token}"

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"Cookie": self.cookie} | named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode("latin-1")
        finally:
            connection.close()

    def keys(self) -> list[str]:
        """Of the incidents listed."""
        return re.findall(r'href="/incident/([0-9a-f]+)"', self.ask("/")[2])

    def sentence(self, path: str, status: int = 404) -> str:
        """The one sentence that a page with this status says."""
        got, headers, body = self.ask(path)
        assert got == status and headers["Content-Type"].startswith("text/html") and "Traceback" not in body
        [said] = re.findall(r"<p>([^<]+)</p>", body)
        return said


def _report(bundle: Bundle, location: str) -> bytes:
    return page(bundle, location=location, signed=Opening().signed(bundle)).encode("utf-8", "replace")


def _since(text: str) -> int:
    try:
        return parse_since(text)
    except click.BadParameter as error:
        raise ValueError(text) from error


@contextlib.contextmanager
def served(
    sink: str, *, host: str = "127.0.0.1", report: Callable[[Bundle, str], bytes] = _report, patience: float = 60.0
) -> Iterator[Visitor]:
    """Serve a sink that is looked through at every request, each of which waits for that."""
    with (
        mock.patch.multiple(incidents, _DIRECTORY_SECONDS=0.0, _BUCKET_SECONDS=0.0, _PATIENCE_SECONDS=patience),
        mock.patch.object(pages, "_DIRECTORY_SECONDS", 0.1),  # an open list asks so often
        Server(Pages(sink, Opening(), report, _since), host, 0) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Visitor(server)
        finally:
            server.shutdown()
            thread.join()
