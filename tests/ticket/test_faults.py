"""A tracker that refuses, is slow, or is not there: one sentence, the contract's exit code, the bundle as it was."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from replay.ticket.http import Client
from replay.ticket.tracker import parse_address
from tests.cli.conftest import assert_one_sentence
from tests.ticket import server
from tests.ticket.conftest import KINDS, File

REFUSALS = [
    (401, {}, 2, "does not accept the credentials"),
    (403, {}, 2, "does not let the credentials"),
    (404, {}, 2, "does not show it to the credentials"),
    (413, {}, 3, "too large (413)"),
    (422, {}, 3, "refuses (422"),
    (429, {"retry-after": "3600"}, 3, "try again in 3600 s"),
    (500, {}, 3, "refuses (500"),
    (503, {}, 3, "refuses (503"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("status", "headers", "code", "words"), REFUSALS, ids=lambda part: str(part))
def test_a_refusal_is_one_sentence(
    kind: str, status: int, headers: dict[str, str], code: int, words: str, start: Any, bundle: Path, file: File
) -> None:
    """Without the token, without what could act on a terminal."""
    tracker = start(kind)
    tracker.faults = [server.answer({"message": "\x1b[2Jno\u202e"}, status, **headers)] * 9
    if kind == "github" and status == 403:
        tracker.faults = [tracker.faults[0]] * 9  # the first is the question who we are, which an app may not ask
    before = bundle.read_bytes()
    ended = file(tracker, bundle)
    assert ended.code == code
    assert_one_sentence(ended.err, [words])
    assert server.TOKEN not in ended.err
    assert bundle.read_bytes() == before
    assert [each.name for each in bundle.parent.iterdir()] == [bundle.name]


def _reset(handler: Any) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def _cut(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
    handler.close_connection = True


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webhook"])  # its answers are not looked at
@pytest.mark.parametrize(
    ("fault", "words"),
    [(_reset, "cannot be reached"), (_cut, ""), (server.answer("no object"), "what its API says")],
    ids=["reset", "cut", "not-the-api"],
)
def test_a_broken_connection_is_one_sentence(
    kind: str, fault: Any, words: str, start: Any, bundle: Path, file: File
) -> None:
    """Exit code 3."""
    tracker = start(kind)
    tracker.faults = [fault]
    ended = file(tracker, bundle)
    assert ended.code == 3
    assert_one_sentence(ended.err, [words])


def test_a_tracker_that_is_silent_is_given_up(start: Any, bundle: Path, file: File) -> None:
    """After --timeout."""
    tracker = start("gitlab")
    over = threading.Event()
    tracker.faults = [lambda handler: over.wait(120)]
    try:
        ended = file(tracker, bundle, "--timeout", "0.2")
    finally:
        over.set()
    assert ended.code == 3
    assert_one_sentence(ended.err, ["did not answer within 0.2 s"])


def test_a_tracker_that_answers_byte_by_byte_is_given_up(start: Any, bundle: Path, file: File) -> None:
    """Each byte is in time, the answer is not."""
    tracker = start("gitlab")
    over = threading.Event()

    def dribble(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not over.wait(0.05):
            try:
                handler.wfile.write(b" ")
            except OSError:
                break
        handler.close_connection = True

    tracker.faults = [dribble]
    try:
        ended = file(tracker, bundle, "--timeout", "0.4")
    finally:
        over.set()
    assert ended.code == 3
    assert_one_sentence(ended.err, ["did not answer within 0.4 s"])


def test_nobody_listens(bundle: Path, file: File) -> None:
    """Exit code 3."""
    tracker = server.GitHub()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        tracker.url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        ended = file(tracker, bundle)
    assert ended.code == 3
    assert_one_sentence(ended.err, ["cannot be reached at 127.0.0.1"])


def test_a_moment_of_patience_is_granted(start: Any) -> None:
    """429 with a short Retry-After is waited for, a long one is not."""
    tracker = start("github")
    waited: list[float] = []
    client = _client(tracker, sleep=waited.append)
    tracker.faults = [server.answer({}, 429, **{"retry-after": "7"}), server.answer({}, 429)]
    assert client.call("GET", "/user").json()["id"] == 1
    assert waited == [7.0, 10.0]


def test_a_redirect_to_another_host_gets_nothing(start: Any, bundle: Path, file: File) -> None:
    """Neither the token nor the request."""
    tracker, other = start("gitlab"), start("gitlab")
    tracker.faults = [server.answer({}, 307, location=f"{other.url}/api/v4/user")]
    ended = file(tracker, bundle)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["credentials do not follow"])
    assert other.requests == []


@pytest.mark.parametrize("location", ["http://[bad", "http://host:99999999/", "//host:bad/", "file:///etc/passwd"])
def test_a_redirect_to_what_is_no_address(location: str, start: Any, bundle: Path, file: File) -> None:
    """Whoever answers may write anything there."""
    tracker = start("gitlab")
    tracker.faults = [server.answer({}, 307, location=location)]
    ended = file(tracker, bundle)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["sends us on to nowhere"])


@pytest.mark.parametrize("url", ["https://[bad", "https://host:99999999/", "https://host:bad/", "file:///etc/passwd"])
def test_an_upload_address_that_is_none(url: str, start: Any, bundle: Path, file: File) -> None:
    """Slack's answer names where the file goes."""
    tracker = start("slack")
    honest = tracker.method

    def method(name: str, form: dict[str, Any]) -> dict[str, Any]:
        return {**honest(name, form), **({"upload_url": url} if name == "files.getUploadURLExternal" else {})}

    tracker.method = method
    ended = file(tracker, bundle)
    assert ended.code == 3
    assert_one_sentence(ended.err, ["nothing was sent there"])


@pytest.mark.parametrize("options", [("--url", "https://[bad"), ("--to", "webhook:https://[bad/path")])
def test_an_address_that_is_none(options: tuple[str, str], start: Any, bundle: Path, file: File) -> None:
    """A bracket that does not close is a slip of the keyboard."""
    ended = file(start("github"), bundle, *options)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["is no URL that can be used"])


def test_a_redirect_on_the_same_host_is_followed(start: Any) -> None:
    """A repository that was renamed; a circle ends."""
    tracker = start("github")
    client = _client(tracker)
    tracker.faults = [server.answer({}, 301, location="/user")]
    assert client.call("GET", "/repos/old/name").json()["id"] == 1
    tracker.faults = [server.answer({}, 302, location="/user")] * 9
    with pytest.raises(Exception, match="in a circle"):
        client.call("GET", "/user")


def test_another_origin_gets_no_credentials(start: Any) -> None:
    """An upload address is one."""
    tracker, other = start("github"), start("webhook")
    _client(tracker).call("POST", f"{other.url}/upload", data={})
    assert "authorization" not in other.requests[0].headers


def test_certificates_are_checked(bundle: Path, file: File, tmp_path: Path) -> None:
    """A server with a certificate of its own is not believed."""
    import ssl
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    tracker = server.GitHub()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tracker.url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        shaken: list[str] = []

        def shake() -> None:
            connection, _ = listening.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
                shaken.append("trusted")
            except OSError as error:
                shaken.append(type(error).__name__)
            finally:
                connection.close()

        thread = threading.Thread(target=shake)
        thread.start()
        ended = file(tracker, bundle)
        thread.join()
    assert ended.code == 3
    assert_one_sentence(ended.err, ["certificate"])
    assert shaken != ["trusted"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        ("invalid_auth", 2, "does not accept the credentials"),
        ("missing_scope", 2, "scopes that docs/tickets.md lists"),
        ("not_in_channel", 2, "invite it"),
        ("ratelimited", 3, "refuses"),
    ],
)
def test_slack_names_errors_in_its_answers(
    error: str, code: int, words: str, start: Any, bundle: Path, file: File
) -> None:
    """With status 200."""
    tracker = start("slack")
    tracker.faults = [server.answer({"ok": False, "error": error})]
    ended = file(tracker, bundle)
    assert ended.code == code
    assert_one_sentence(ended.err, [words])


def test_a_channel_that_is_not_shown_is_named(start: Any, bundle: Path, file: File) -> None:
    """Exit code 2."""
    tracker = start("slack")
    tracker.method = lambda name, form: {"ok": True, "user_id": "U1", "channels": []}
    ended = file(tracker, bundle)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["has no channel #line"])


def test_an_app_of_github_finds_its_comment(start: Any, bundle: Path, file: File) -> None:
    """It has no user, so GET /user is 403; its comments are by a bot."""
    tracker = start("github")
    forbidden = server.answer({"message": "Resource not accessible by integration"}, 403)
    tracker.faults = [forbidden]
    assert file(tracker, bundle).code == 0
    tracker.comments[0]["user"]["type"] = "Bot"
    tracker.faults = [forbidden]
    assert file(tracker, bundle, "--json").json()["updated"] is True
    assert len(tracker.comments) == 1


def test_an_interrupted_upload_is_finished_by_the_next_run(start: Any, bundle: Path, file: File) -> None:
    """Jira's file is there, its comment is not: nothing is sent twice."""
    tracker = start("jira")
    honest: Callable[[server.Request], server.Answer] = tracker.respond
    tracker.respond = lambda request: (
        server.answer({}, 500) if request.method == "POST" and request.path.endswith("/comment") else honest(request)
    )
    assert file(tracker, bundle).code == 3
    tracker.respond = honest
    assert file(tracker, bundle).code == 0
    assert [name for name, _ in tracker.files].count(bundle.name) == 1
    assert len(tracker.comments) == 1


def _client(tracker: Any, **options: Any) -> Client:
    assert parse_address(tracker.address)
    return Client(
        tracker="GitHub", base=tracker.url, credentials={"Authorization": f"Bearer {server.TOKEN}"},
        named="GITHUB_TOKEN", target="acme/line#7", **options,
    )  # fmt: skip
