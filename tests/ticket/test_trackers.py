"""Each tracker gets what its API documents, once."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle
from replay.ticket.document import marker
from tests.cli.conftest import Run, assert_one_sentence
from tests.ticket import server
from tests.ticket.conftest import KINDS, File

FILES = ("gitlab", "jira", "jira-server", "slack")


@pytest.mark.parametrize("kind", KINDS)
def test_a_ticket_says_what_happened(kind: str, start: Any, bundle: Path, file: File) -> None:
    """Trigger, cause, verdict, model digest, bundle id and the command, on every tracker."""
    tracker = start(kind)
    ended = file(tracker, bundle, "--json")
    assert ended.code == 0, ended.err
    [text] = tracker.texts()
    with Bundle.open(bundle) as opened:
        bundle_id = opened.id
    for words in ("low_confidence", "confidence 0.31 is below 0.5", "not diagnosed", "not replayed yet", "ab" * 32,
                  bundle_id, f"replay {bundle.name}", "line-3", "1.2 kB", "in no store of this machine"):  # fmt: skip
        assert words in text, words
    said = ended.json()
    assert said["attached"] is (kind in FILES)
    assert said["updated"] is False
    assert server.TOKEN not in ended.out + ended.err + text


@pytest.mark.parametrize("kind", FILES)
def test_the_attachment_is_the_bundle_byte_for_byte(kind: str, start: Any, bundle: Path, file: File) -> None:
    """With the first bad image beside it, a JPEG that was made here."""
    tracker = start(kind)
    before = bundle.read_bytes()
    assert file(tracker, bundle).code == 0
    attached, picture = tracker.files
    assert attached == (bundle.name, before)
    assert picture[0].endswith("-frame-3.jpg")
    assert picture[1].startswith(b"\xff\xd8\xff")
    assert bundle.read_bytes() == before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webhook"])
def test_filing_again_updates_what_is_there(kind: str, start: Any, bundle: Path, file: File) -> None:
    """The same comment, no second file, and a comment by someone else with our marker is left alone."""
    tracker = start(kind)
    with Bundle.open(bundle) as opened:
        bundle_id = opened.id
    forged = _forge(tracker, bundle_id)
    assert file(tracker, bundle).code == 0
    files = list(getattr(tracker, "files", []))
    _save_result(bundle, bundle_id)
    again = file(tracker, bundle, "--json")
    assert again.json()["updated"] is True
    [text] = tracker.texts()
    assert "bit-exact" in text
    assert getattr(tracker, "files", []) == files
    assert _forge(tracker, bundle_id, make=False) == forged


def test_comments_on_the_second_page_are_found(start: Any, bundle: Path, file: File) -> None:
    """A ticket may be long."""
    for kind in ("github", "gitlab", "jira", "jira-server"):
        tracker = start(kind)
        other = "stranger" if kind.startswith("jira") else 2
        for _ in range(120):
            tracker.add("me too", other)
        assert file(tracker, bundle, "--json").json()["updated"] is False
        assert file(tracker, bundle, "--json").json()["updated"] is True
        assert len(tracker.texts()) == 1


def test_the_picture_is_inline_where_the_tracker_draws_it(start: Any, bundle: Path, file: File) -> None:
    """GitLab by its upload, Jira by its attachment's address."""
    gitlab, jira = start("gitlab"), start("jira")
    file(gitlab, bundle)
    file(jira, bundle)
    assert f"![first bad image](/uploads/{2:032x}/" in gitlab.texts()[0]
    [media] = [node for node in jira.comments[0]["body"]["content"] if node["type"] == "mediaSingle"]
    assert media["content"][0]["attrs"]["url"] == f"{jira.url}/rest/api/3/attachment/content/2"


def test_a_bundle_that_is_too_large_is_named_not_sent(start: Any, bundle: Path, file: File) -> None:
    """Jira says itself how much it takes."""
    tracker = start("jira")
    tracker.limit = 1000
    ended = file(tracker, bundle, "--json")
    assert ended.code == 0
    assert ended.json()["attached"] is False
    assert "more than the 1.0 kB that Jira takes" in ended.json()["not_attached_because"]
    assert [name for name, _ in tracker.files if name.endswith(".zst")] == []
    assert "ask who filed this for" in tracker.texts()[0]


def test_github_is_told_that_the_file_must_come_by_hand(start: Any, bundle: Path, file: File) -> None:
    """Its API takes no files."""
    tracker = start("github")
    assert "the bundle is not attached: GitHub takes no files from programs" in file(tracker, bundle).out
    assert "not attached: GitHub takes no files" in tracker.texts()[0]


def test_the_webhook_can_check_who_sends(start: Any, bundle: Path, file: File) -> None:
    """The signature is over time and body as they arrived."""
    tracker = start("webhook")
    assert file(tracker, bundle).code == 0
    [request] = tracker.requests
    seconds, _, given = request.headers["x-flight-recorder-signature"].partition(",")
    message = seconds.removeprefix("t=").encode() + b"." + request.body
    assert given == "v1=" + hmac.new(server.TOKEN.encode(), message, hashlib.sha256).hexdigest()
    assert request.query == {"team": "a"}
    assert request.json()["event"] == "incident"
    assert request.headers["idempotency-key"] == request.json()["document"]


def test_slack_gets_no_token_at_the_upload_host_and_no_markup(start: Any, bundle: Path, file: File) -> None:
    """The upload address is another host; blocks are typed, and nothing is expanded."""
    tracker, elsewhere = start("slack"), start("slack")
    elsewhere.pending = tracker.pending
    tracker.upload_host = elsewhere.url
    # Only the tracker's own origin may be without encryption: any other address is refused.
    ended = file(tracker, bundle)
    assert ended.code == 3
    assert elsewhere.requests == []
    tracker.upload_host = ""
    assert file(tracker, bundle).code == 0
    post = next(each for each in tracker.requests if each.path.endswith("chat.postMessage")).json()
    assert (post["parse"], post["link_names"], post["unfurl_links"], post["unfurl_media"]) == (
        "none",
        False,
        False,
        False,
    )
    types = set(_values(post["blocks"], "type"))
    assert types == {"rich_text", "rich_text_section", "rich_text_list", "rich_text_preformatted", "text"}


def test_an_unusual_file_name_does_not_travel(start: Any, bundle: Path, file: File) -> None:
    """What is attached has a name that needs no quoting anywhere."""
    tracker = start("gitlab")
    odd = bundle.rename(bundle.with_name('x"; @all [y](z) `id`.zst'))
    assert file(tracker, odd).code == 0
    assert tracker.files[0][0].startswith("incident-")
    assert "@all" not in tracker.texts()[0]


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("trello:x", "names no tracker"),
        ("github:acme/line", "github:owner/repo#1"),
        ("github:acme/../x#1", "github:owner/repo#1"),
        ("gitlab:acme#1", "gitlab:group/project#1"),
        ("gitlab:../../x#1", "gitlab:group/project#1"),
        ("jira:line-1", "jira:KEY-1"),
        ("slack:line", "slack:#channel"),
        ("webhook:http://example.com/x", "https://"),
        ("webhook:https://me:pw@example.com/x", "without user or password"),
    ],
)
def test_a_wrong_address_is_one_sentence(to: str, words: str, bundle: Path, replay: Run) -> None:
    """Exit code 2, before anything is sent."""
    ended = replay("ticket", bundle, "--to", to)
    assert ended.code == 2
    assert_one_sentence(ended.err, [words])


@pytest.mark.parametrize("kind", KINDS)
def test_missing_credentials_name_their_variable(
    kind: str, bundle: Path, file: File, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and nothing was sent."""
    for name in (
        "GITHUB_TOKEN",
        "GITLAB_TOKEN",
        "JIRA_EMAIL",
        "JIRA_SERVER_TOKEN",
        "SLACK_BOT_TOKEN",
        "REPLAY_WEBHOOK_SECRET",
    ):
        monkeypatch.delenv(name)
    tracker = start(kind)
    ended = file(tracker, bundle)
    assert ended.code == 2
    assert_one_sentence(ended.err, ["set the environment variable"])
    assert tracker.requests == []


def test_jira_has_no_address_of_its_own(bundle: Path, replay: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must be given, over https."""
    assert_one_sentence(replay("ticket", bundle, "--to", "jira:LINE-7").err, ["REPLAY_JIRA_URL"])
    monkeypatch.setenv("REPLAY_JIRA_URL", "http://jira.example.com")
    assert_one_sentence(replay("ticket", bundle, "--to", "jira:LINE-7").err, ["in the clear"])


def test_jira_data_center_gets_wiki_markup(start: Any, bundle: Path, file: File) -> None:
    """The whole body, and the picture by its file name; a second run changes nothing but the comment."""
    tracker = start("jira-server")
    assert file(tracker, bundle).code == 0
    assert file(tracker, bundle).code == 0
    [text] = tracker.texts()
    with Bundle.open(bundle) as opened:
        bundle_id = opened.id
    head, facts, between, command, tail = text.split("{noformat}")
    assert (head, between) == ("h3. Incident\n\n", "\n\n")
    assert facts.startswith("\nIncident") and f"\nHeld: attached to this ticket as {bundle.name}\n" in facts
    assert command == f"\nreplay {bundle.name}\n"
    assert tail == f"\n\n!incident-{bundle_id[:12]}-frame-3.jpg|thumbnail!\n\n_{marker(bundle_id)}_"
    [made] = [each for each in tracker.requests if each.method == "POST" and each.path.endswith("/comment")]
    [edited] = [each for each in tracker.requests if each.method == "PUT"]
    assert made.json() == edited.json() == {"body": text}
    assert len(tracker.files) == 2


def _values(node: Any, key: str) -> list[Any]:
    if isinstance(node, dict):
        return [value for name, value in node.items() if name == key] + _values(list(node.values()), key)
    return [each for item in node for each in _values(item, key)] if isinstance(node, list) else []


def _forge(tracker: Any, bundle_id: str, make: bool = True) -> str:
    """Someone else's comment that looks like ours."""
    if isinstance(tracker, server.Slack):
        if make:
            tracker.add({"metadata": {"event_payload": {"document": bundle_id}}, "text": "mine"}, "U2")
        return str(tracker.messages[0]["text"])
    if isinstance(tracker, server.JiraServer):
        if make:
            tracker.add(f"mine\n\n_{marker(bundle_id)}_", "stranger")
        return str(tracker.comments[0]["body"])
    if isinstance(tracker, server.Jira):
        if make:
            text = {"type": "text", "text": marker(bundle_id)}
            tracker.add({"type": "doc", "content": [{"type": "paragraph", "content": [text]}]}, "stranger")
        return json.dumps(tracker.comments[0]["body"])
    if make:
        tracker.add(f"<!-- {marker(bundle_id)} -->\nmine", 2)
    return str((tracker.comments if isinstance(tracker, server.GitHub) else tracker.notes)[0]["body"])


def _save_result(bundle: Path, bundle_id: str) -> None:
    result = {
        "format": "vision-flight-recorder replay", "format_version": {"major": 1, "minor": 0}, "bundle": bundle_id,
        "verdict": "bit-exact", "reproduced": True, "failure_reproduced": True, "numerics": "faithful",
        "not_restored": [], "frames": [], "conclusion": "it is the same", "remedies": [], "exit_code": 0,
    }  # fmt: skip
    Path(f"{bundle}.replay.json").write_text(json.dumps(result))


@pytest.mark.parametrize("kind", FILES)
def test_a_bundle_in_a_bucket_is_read_by_ranges_and_attached(kind: str, start: Any, bundle: Path) -> None:
    """Byte for byte, under the last part of its key; too large a one is named by its address."""
    from replay.load import ModelLocations
    from replay.ticket.attachment import Attachment, from_bundle
    from replay.ticket.facts import describe, saved_verdict
    from replay.ticket.filing import Ticket, connect, file_ticket
    from replay.ticket.tracker import parse_address

    tracker = start(kind)
    location = f"s3://incidents/line/{bundle.name}"
    connected = connect(parse_address(tracker.address), tracker.url + tracker.base, 30.0)
    with Bundle.open(bundle.read_bytes()) as opened:
        document = describe(opened, saved_verdict(location, opened.id), ModelLocations(directories=()), None)
        attachment = from_bundle(opened, location)
        filed, _ = file_ticket(Ticket(document=document, location=location, attachment=attachment), connected)
        assert filed.attached
        assert tracker.files == [(bundle.name, bundle.read_bytes())]
        huge = Attachment(bundle.name, 10**12, attachment.open)
        filed, why = file_ticket(Ticket(document=document, location=location, attachment=huge), connected)
    assert not filed.attached
    assert "is more than the" in why
    [text] = tracker.texts()
    assert location in text
    assert f"replay {location}" in text
    assert len(tracker.files) == 1
