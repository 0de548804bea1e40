"""The list over HTTP: who is let in, what is found, and what a stranger's bundle or address can do."""

from __future__ import annotations

import http.client
import re
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.live import incidents as listing
from replay.live.pages import Kept, Pages
from replay.live.server import Server
from replay.opening import Opening
from tests.attacks.bundles import attack_bundle
from tests.bundles import small_bundle


def _since(text: str) -> int:
    raise ValueError(text)


class Visitor:
    """Asks a server for pages."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.cookie = f"{server.cookie}={server.token}"

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, str]:
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, path, headers={"Cookie": self.cookie} | headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode("latin-1")
        finally:
            connection.close()

    def keys(self) -> list[str]:
        """Of the incidents listed."""
        return re.findall(r'href="/incident/([0-9a-f]+)"', self.ask("/")[2])


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A server of one good, one hostile and one truncated bundle; sinks are listed on every request."""
    folder = tmp_path_factory.mktemp("sink")
    small_bundle(folder / "good.zst")
    (folder / "hostile.zst").write_bytes(attack_bundle("strings-in-everything"))
    (folder / "broken.zst").write_bytes(b"no bundle")

    def report(location: str) -> bytes:
        path = tmp_path_factory.mktemp("page") / "report.html"
        assert CliRunner().invoke(cli, ["report", location, "-o", str(path)]).exit_code == 0
        return path.read_bytes()

    with (
        pytest.MonkeyPatch.context() as patch,
        Server(Pages(str(folder), Opening(), report, _since), "127.0.0.1", 0) as server,
    ):
        patch.setattr(listing, "_DIRECTORY_SECONDS", 0.0)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield Visitor(server, folder)
        server.shutdown()
        thread.join()


def test_the_token_is_exchanged_for_a_cookie(visitor: Visitor) -> None:
    """Which no script reads and no other site sends."""
    status, headers, _ = visitor.ask(
        urllib.parse.urlsplit(visitor.server.address)._replace(scheme="", netloc="").geturl()
    )
    assert (status, headers["Location"]) == (303, "/")
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]


@pytest.mark.parametrize("path", ["/", "/?token=wrong", "/incident/0", "/thumbnail/0"])
def test_nobody_else_is_let_in(visitor: Visitor, path: str) -> None:
    """Without the cookie, or with another."""
    for cookie in ("", f"{visitor.server.cookie}=wrong", "{}=;;\x7f"):
        assert visitor.ask(path, Cookie=cookie)[0] == 403


def test_another_host_is_refused(visitor: Visitor) -> None:
    """A name that was rebound to this address reads nothing, cookie or not."""
    assert visitor.ask("/", Host=f"evil.example:{visitor.server.port}")[0] == 403
    assert visitor.ask("/", Host=f"localhost:{visitor.server.port}")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_it_only_answers_questions(visitor: Visitor, method: str) -> None:
    """GET and HEAD."""
    assert visitor.ask("/", method)[0] == 501
    assert visitor.ask("/", "HEAD")[2] == ""


@pytest.mark.parametrize("path", [
    "/incident/../../etc/passwd", "/incident/%2e%2e%2fgood.zst", "/incident/good.zst", "//etc/passwd", "/thumbnail/",
    "/good.zst", "/incident/" + "0" * 24,
])  # fmt: skip
def test_no_address_reaches_a_file(visitor: Visitor, path: str) -> None:
    """Only keys of the list are known."""
    assert visitor.ask(path)[0] == 404


def test_the_list_names_what_cannot_be_read(visitor: Visitor) -> None:
    """A broken bundle with a sentence, a hostile one as text."""
    status, headers, body = visitor.ask("/")
    assert status == 200
    assert "cannot be read" in body and "broken.zst" in body
    assert "<script" not in body
    assert (
        "default-src 'none'" in headers["Content-Security-Policy"]
        and "script-src" not in headers["Content-Security-Policy"]
    )


def test_reports_and_thumbnails_open(visitor: Visitor) -> None:
    """Of the good and of the hostile bundle."""
    keys = visitor.keys()
    assert len(keys) >= 2
    kinds = set()
    for key in keys:
        status, headers, body = visitor.ask(f"/incident/{key}")
        assert status == 200 and "<!doctype html>" in body.lower()
        assert "script-src 'sha256-" in headers["Content-Security-Policy"]
        status, headers, body = visitor.ask(f"/thumbnail/{key}")
        assert status == 200 and headers["Content-Type"] in ("image/jpeg", "image/svg+xml")
        kinds.add(headers["Content-Type"])
    assert "image/jpeg" in kinds  # also of noise, which compresses worst


def test_filters_narrow_the_list(visitor: Visitor) -> None:
    """By kind and text; a time that is none is said, and shows all."""
    assert "good.zst" in visitor.ask("/?kind=low_confidence&text=GOOD")[2]
    assert "No incident matches" in visitor.ask("/?kind=latency&stream=nowhere")[2]
    assert "takes 90s" in visitor.ask("/?since=%3Cscript%3E")[2]


def test_new_incidents_appear(visitor: Visitor) -> None:
    """Without a restart; deleted ones vanish."""
    new = small_bundle(visitor.folder / "new.zst", seed=1)
    assert "new.zst" in visitor.ask("/")[2]
    new.unlink()
    assert "new.zst" not in visitor.ask("/")[2]


def test_what_is_kept_is_bounded() -> None:
    """The answers asked for longest ago go first."""
    kept = Kept(10)
    for number in range(5):
        kept.get((number,), lambda: b"1234")
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return b"1234"

    for number in (4, 3, 0):
        kept.get((number,), lambda number=number: make(number))  # type: ignore[misc]
    assert made == [0]


def test_wrong_options_are_a_sentence(tmp_path: Path) -> None:
    """A sink that is none, and options that do not go together."""
    assert CliRunner().invoke(cli, ["report", "--serve", str(tmp_path / "none")]).exit_code == 2
    assert CliRunner().invoke(cli, ["report", "--serve", str(tmp_path), "-o", "x"]).exit_code == 2
    assert CliRunner().invoke(cli, ["report", str(tmp_path)]).exit_code == 2
