"""Clients that hang, dawdle or say nonsense: each loses its own connection, and nobody else's time."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from recorder.sinks import BundleListing
from replay.live import handler, incidents, kept
from replay.live.kept import Busy, Kept
from tests.bundles import small_bundle
from tests.live.visitor import Visitor, served
from tests.waiting import wait_for

#: More than the server takes at a time.
MANY = 30


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Visitor]:
    """Of a server whose reports are long."""
    small_bundle(tmp_path / "one.zst")
    with served(str(tmp_path), report=lambda bundle, location: bytes(16 * 2**20)) as made:
        yield made


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the server's patience short."""

    def made() -> None:
        monkeypatch.setattr(handler, "_REQUEST_SECONDS", 0.3)
        monkeypatch.setattr(handler, "_ANSWER_SECONDS", 0.3)

    return made


def _is_answered(visitor: Visitor) -> bool:
    try:
        return visitor.ask("/")[0] == 200
    except (OSError, http.client.HTTPException):  # there is no room yet
        return False


def _connect(visitor: Visitor) -> socket.socket:
    return socket.create_connection(("127.0.0.1", visitor.server.port), timeout=60)


def _raw(visitor: Visitor, request: str) -> str:
    with _connect(visitor) as connection:
        connection.sendall(request.encode("latin-1"))
        with connection.makefile("rb") as answer:
            return answer.read().decode("latin-1")


def test_clients_that_say_nothing_hold_nothing(visitor: Visitor, hurry: Callable[[], None]) -> None:
    """More of them than there is room for."""
    hurry()
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(_connect(visitor))
        wait_for(lambda: _is_answered(visitor))


def test_a_client_that_speaks_byte_by_byte_is_cut_off(visitor: Visitor, hurry: Callable[[], None]) -> None:
    """However regularly a byte comes."""
    hurry()
    with _connect(visitor) as connection:
        connection.settimeout(0.02)

        def is_cut_off() -> bool:
            try:
                connection.sendall(b"G")
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_for(is_cut_off)


def test_clients_that_do_not_listen_hold_nothing(visitor: Visitor, hurry: Callable[[], None]) -> None:
    """They asked for a page and never take it."""
    [key] = visitor.keys()
    hurry()
    request = f"GET /incident/{key} HTTP/1.0\r\nHost: localhost\r\nCookie: {visitor.cookie}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(_connect(visitor)).sendall(request.encode())
        wait_for(lambda: _is_answered(visitor))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET / HTTP/1.0\r\n\r\n", 403),
        ("GET / HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 403),
        ("GET http://localhost/ HTTP/1.0\r\nHost: evil.example\r\n\r\n", 403),
        ("GET http://[ HTTP/1.0\r\nHost: localhost\r\n\r\n", 400),
        ("GET /?" + "&".join(["a=b"] * 50) + " HTTP/1.0\r\nHost: localhost\r\n\r\n", 400),
        ("GET /?" + "a" * 5000 + " HTTP/1.0\r\nHost: localhost\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nHost: localhost\r\n\r\n", 501),
        ("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n" + "".join(f"X{n}: y\r\n" for n in range(200)) + "\r\n", 431),
    ],
)
def test_what_is_no_request_gets_a_sentence(request_: str, status: int, visitor: Visitor) -> None:
    """With the policy of every page, and nothing of what was sent."""
    answer = _raw(visitor, request_)
    found = re.search(r"^HTTP/1.0 (\d+)", answer, re.MULTILINE)
    if found is None:  # what speaks no version gets no head
        assert "Only GET and HEAD are answered" in answer
        return
    assert int(found[1]) == status
    assert "Content-Security-Policy: default-src 'none'" in answer and "Referrer-Policy: no-referrer" in answer
    assert len(re.findall(r"<p>[^<]+</p>", answer)) == 1 and "evil.example" not in answer


def test_an_unchanged_list_is_not_sent_again(visitor: Visitor) -> None:
    """What an open list asks by."""
    _, headers, _ = visitor.ask("/")
    status, again, body = visitor.ask("/", If_None_Match=headers["ETag"])
    assert (status, body, again["ETag"]) == (304, "", headers["ETag"])
    assert visitor.ask("/?text=nowhere", If_None_Match=headers["ETag"])[0] == 200


def test_a_listing_that_takes_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of an empty list that looks like peace; and a sink that breaks is a sentence."""
    go = threading.Event()

    def slow(sink: str) -> list[BundleListing]:
        assert go.wait(60)
        raise RuntimeError("a secret of the store")

    monkeypatch.setattr(incidents, "bundles_of", slow)
    with served(str(tmp_path), patience=0.0) as visitor:
        assert "still being read" in visitor.ask("/")[2]
        go.set()
        wait_for(lambda: "cannot be listed (RuntimeError)" in visitor.ask("/")[2])
        assert "secret" not in visitor.ask("/")[2]


def test_a_page_is_made_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is not kept; who would wait too long is told so."""
    answers, made, go = Kept(100, 1), [], threading.Event()
    told = Future.result
    asked: list[int] = []

    def result(other: Future[bytes], timeout: float | None = None) -> bytes:
        asked.append(1)
        return told(other, timeout)

    def make() -> bytes:
        made.append(1)
        assert go.wait(60)
        return b"page"

    def fail() -> bytes:
        raise ValueError

    with ThreadPoolExecutor(4) as threads:
        with monkeypatch.context() as patch:
            patch.setattr(Future, "result", result)
            waiting = [threads.submit(answers.get, ("one",), make) for _ in range(4)]
            wait_for(lambda: made and len(asked) == 3)  # who comes later has no patience
        monkeypatch.setattr(kept, "_PATIENCE_SECONDS", 0.0)
        for key in ("one", "two"):
            with pytest.raises(Busy):
                answers.get((key,), make)
        go.set()
        assert {each.result(60) for each in waiting} == {b"page"} and made == [1]
    for _ in range(2):
        with pytest.raises(ValueError):
            answers.get(("bad",), fail)
    assert answers.get(("bad",), lambda: b"good") == b"good"
