"""The list over HTTP: who is let in, what is found, and what a stranger's bundle or address can do."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from replay.cli import cli
from replay.live import incidents
from replay.live.kept import Kept
from tests.attacks.bundles import REFUSED, attack_bundle
from tests.bundles import small_bundle
from tests.live.visitor import Visitor, served


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good, one hostile and one truncated bundle."""
    made = tmp_path_factory.mktemp("sink")
    small_bundle(made / "good.zst")
    (made / "hostile.zst").write_bytes(attack_bundle("strings-in-everything"))
    (made / "broken.zst").write_bytes(b"no bundle")
    return made


@pytest.fixture(scope="module")
def visitor(folder: Path) -> Iterator[Visitor]:
    """Of a server of these."""
    with served(str(folder)) as made:
        yield made


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
    assert "<script>alert" not in body and "&lt;script&gt;" in body
    allowed = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
    assert allowed["default-src"] == "'none'" and allowed["connect-src"] == "'self'"
    assert re.fullmatch(r"'sha256-\S+'", allowed["script-src"]) and re.fullmatch(r"'sha256-\S+'", allowed["style-src"])


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


def test_new_incidents_appear(visitor: Visitor, folder: Path) -> None:
    """Without a restart; deleted ones vanish."""
    new = small_bundle(folder / "new.zst", seed=1)
    assert "new.zst" in visitor.ask("/")[2]
    new.unlink()
    assert "new.zst" not in visitor.ask("/")[2]


def test_what_is_kept_is_bounded() -> None:
    """The answers asked for longest ago go first."""
    kept = Kept(10, 1)
    for number in range(5):
        kept.get((number,), lambda: b"1234")
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return b"1234"

    for number in (4, 3, 0):
        kept.get((number,), lambda number=number: make(number))  # type: ignore[misc]
    assert made == [0]


def test_a_directory_of_attacks_is_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a line, opens or says why not; more files than are listed are counted."""
    names = ["strings-in-everything", *sorted(REFUSED)[::5]]
    for number, name in enumerate(names):
        (tmp_path / f"{number}.zst").write_bytes(attack_bundle(name))
    with served(str(tmp_path)) as visitor:
        body = visitor.ask("/")[2]
        assert body.count("<li id=") == len(names)
        for key in re.findall(r"/incident/([0-9a-f]{24})", body):
            assert {visitor.ask(f"/{kind}/{key}")[0] for kind in ("incident", "thumbnail")} <= {200, 404}
        monkeypatch.setattr(incidents, "MAX_INCIDENTS", 5)
        body = visitor.ask("/")[2]
        assert body.count("<li id=") == 5
        assert f"5 of {len(names)} in" in body and f"{len(names) - 5} older ones are not" in body


def test_wrong_options_are_a_sentence(tmp_path: Path) -> None:
    """A sink that is none, and options that do not go together."""
    assert CliRunner().invoke(cli, ["report", "--serve", str(tmp_path / "none")]).exit_code == 2
    assert CliRunner().invoke(cli, ["report", "--serve", str(tmp_path), "-o", "x"]).exit_code == 2
    assert CliRunner().invoke(cli, ["report", str(tmp_path)]).exit_code == 2
