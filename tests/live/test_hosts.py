"""Where the list is served, and under which names: none that somebody else's DNS could lead here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from recorder.bundle import BundleUnavailable
from replay.cli import cli
from replay.live.hosts import Place
from tests.bundles import small_bundle
from tests.live.visitor import served

#: Of pages that a rebound name led here, or that try to look like a name that is let in.
STRANGE = [
    "", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "localhost.", "::1",
    "127.0.0.1@evil.example", "evil.example@127.0.0.1", "127.0.0.1:80:80", "[::1", "[::1]evil.example", "0x7f.1",
    "127.1", "2130706433", "127.0.0.1 ", "127.0.0.1,evil.example", "localhost:port", "[127.0.0.1", "[evil.example]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One name is known, and no other is asked for."""
    real = socket.getaddrinfo

    def found(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "box.example":
            host = "192.0.2.7"
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", "[::1]", "0.0.0.0", "::", "192.0.2.7", "box.example"]
)
def test_a_name_that_was_led_here_is_strange_wherever_it_listens(host: str) -> None:
    """Also on all addresses, where it may be called by many."""
    place = Place(host, 0)
    assert [name for name in STRANGE if place.is_own(name)] == []


@pytest.mark.parametrize(
    ("host", "own", "strange", "shown"),
    [
        ("127.0.0.1", ["127.0.0.1:8000", "LOCALHOST:8000", "[::1]:9", "localhost"], ["192.0.2.7"], "127.0.0.1"),
        ("localhost", ["localhost:8000", "127.0.0.1:8000", "[::1]"], ["192.0.2.7:8000"], "localhost"),
        ("::1", ["[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", "localhost"], ["[2001:db8::1]:8000"], "[::1]"),
        ("0.0.0.0", ["192.0.2.7:8000", "127.0.0.1", "localhost", "[2001:db8::1]:80"], ["box.example"], "127.0.0.1"),
        ("::", ["192.0.2.7:8000", "[2001:db8::1]:80", "localhost:1"], ["box.example:8000"], "[::1]"),
        ("2001:DB8::1", ["[2001:db8::1]:80"], ["localhost", "[2001:db8::2]", "127.0.0.1"], "[2001:db8::1]"),
        ("BOX.example", ["box.example:8000", "Box.Example", "192.0.2.7"], ["localhost", "192.0.2.8"], "box.example"),
    ],
)  # fmt: skip
def test_each_place_has_its_names(host: str, own: list[str], strange: list[str], shown: str) -> None:
    """Addresses, and the name that the user gave; whatever the port, which a forwarded connection changes."""
    place = Place(host, 0)
    assert [name for name in own if not place.is_own(name)] == []
    assert [name for name in strange if place.is_own(name)] == []
    assert place.shown == shown


@pytest.mark.parametrize("host", ["", "[]", "nowhere.invalid", "a" * 70 + ".example", "a\0b", "ü" * 300])
def test_what_is_no_address_is_a_sentence(host: str) -> None:
    """With what to do instead."""
    with pytest.raises(BundleUnavailable, match=r"leave it out to listen on 127\.0\.0\.1"):
        Place(host, 0)


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")])
def test_the_printed_address_opens(host: str, shown: str, tmp_path: Path) -> None:
    """Of all kinds of addresses that this machine has."""
    small_bundle(tmp_path / "one.zst")
    try:
        with served(str(tmp_path), host=host) as visitor:
            assert visitor.server.address.startswith(f"http://{shown}:{visitor.server.port}/?token=")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
            with opener.open(visitor.server.address, timeout=60) as answer:
                assert answer.url == f"http://{shown}:{visitor.server.port}/" and b"one.zst" in answer.read()
            assert host == "::1" or visitor.ask("/", Host="box.example")[0] == 403
    except BundleUnavailable as error:
        assert ":" in host and "cannot be listened on" in str(error)


def test_a_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    """And exit code 2; so is an address of another machine."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = CliRunner().invoke(cli, ["report", "--serve", str(tmp_path), "--port", str(taken.getsockname()[1])])
    assert ended.exit_code == 2 and ended.stdout == ""
    assert "Address already in use; --port 0 takes a free one" in ended.stderr and ended.stderr.count("\n") == 1
    ended = CliRunner().invoke(cli, ["report", "--serve", str(tmp_path), "--host", "192.0.2.7"])
    assert ended.exit_code == 2 and "leave --host and --port out" in ended.stderr


def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    """Also with a connection open; the token was printed once, and nowhere else."""
    small_bundle(tmp_path / "one.zst")
    program = "from replay.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "report", "--serve", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in background jobs
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stderr is not None
            address, _, rest = process.stdout.readline().partition(" ")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
            with opener.open(address, timeout=60) as answer:
                assert b"one.zst" in answer.read() and "Ctrl-C ends" in rest
            port = int(address.rpartition(":")[2].partition("/")[0])
            with socket.create_connection(("127.0.0.1", port)):
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0
            assert process.stdout.read() == "" and process.stderr.read() == ""
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
        finally:
            process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["one.zst"]
