"""A bundle that attacks with every string it has acts on no tracker."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from recorder.bundle import Bundle
from replay.load import ModelLocations
from replay.ticket.adf import adf
from replay.ticket.document import Claim, Document, Fact, claim
from replay.ticket.facts import command_for, describe, saved_verdict
from replay.ticket.markdown import markdown
from replay.ticket.rich_text import rich_text, summary
from replay.ticket.wiki import wiki
from tests.attacks.bundles import INERT, STRING, attack_bundle
from tests.cli.conftest import Run
from tests.ticket.conftest import KINDS, File

#: One of each thing that acts somewhere: GitHub, GitLab, Jira's wiki markup, Slack, HTML, Markdown, a shell.
ACTIVE = (
    "@acme/team", "#1", "acme/line#1", "!7", "~bug", "%v1", "&3", "$12", "/close", "/assign @me", ":tada:",
    "<!channel>", "<!here>", "<@U1>", "<#C1>", "<https://e.vil|x>", "[x](http://e.vil)", "![x](http://e.vil/i.png)",
    "<https://e.vil>", "https://e.vil", "www.e.vil", "<script>alert(1)</script>", "<img src=x>", "<!-- x -->", "-->",
    "```", "~~~", "````\n", "`", "``", "$`x`$", "$$x$$", "{noformat}", "{code}", "[~accountid:1]", "!x.png!", "{{x}}",
    "{panel}", "[[_TOC_]]", "[[include]]", "# title", "- [ ] do", "> quote", "| a | b |\n|---|---|", "\n\n/close\n",
    "\\", "&lt;", "*x*", "_x_", "deadbeef", "\u202e\u200b\x1b[2J", STRING,
)  # fmt: skip

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


_attack = functools.cache(attack_bundle)  # takes a second to make


@pytest.fixture(params=INERT)
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A valid bundle whose strings attack."""
    (tmp_path / "sink").mkdir()
    path = tmp_path / "sink" / "20260301T030000.250000Z-0123456789ab.zst"
    path.write_bytes(_attack(request.param))
    return path


def test_the_printed_markdown_is_inert(hostile: Path, replay: Run) -> None:
    """Read by a parser of its own: hostile text stands in code spans and nowhere else."""
    ended = replay("ticket", hostile, "--image")
    assert ended.code == 0
    _assert_inert_markdown(ended.out)


@pytest.mark.parametrize("kind", KINDS)
def test_no_tracker_gets_anything_that_acts(kind: str, hostile: Path, start: Any, file: File) -> None:
    """In its own language, with a hostile saved result beside it."""
    with Bundle.open(hostile) as opened:
        _hostile_result(hostile, opened.id)
    tracker = start(kind)
    assert file(tracker, hostile).code == 0
    [text] = tracker.texts()
    if kind in ("github", "gitlab"):
        assert "script" in text  # the attack is shown
        _assert_inert_markdown(text)
    elif kind == "jira":
        _assert_inert_adf(json.loads(text))
    elif kind == "jira-server":
        _assert_inert_wiki(text)
    elif kind == "slack":
        _assert_inert_blocks(json.loads(text))
        post = next(each for each in tracker.messages if "blocks" in each)
        assert re.fullmatch(r"Incident, bundle [0-9a-f]{12}", post["text"])
    else:
        for fact in json.loads(text)["facts"]:
            assert fact["text"].isprintable()


@given(st.lists(st.sampled_from(ACTIVE) | ANY, min_size=1, max_size=6).map("".join))
def test_no_claim_leaves_its_place(text: str) -> None:
    """Whatever it says."""
    document = _document(claim(text), claim(text, 12))
    _assert_inert_markdown(markdown(document))
    _assert_inert_adf(adf(document))
    _assert_inert_wiki(wiki(document))
    _assert_inert_blocks(rich_text(document))
    assert summary(document) == f"Incident, bundle {'0' * 12}"


@pytest.mark.parametrize("text", ACTIVE)
def test_each_thing_that_acts_is_shown_as_it_is(text: str) -> None:
    """And does nothing."""
    _assert_inert_markdown(markdown(_document(claim(text))))


@given(ANY)
def test_the_command_quotes_what_was_typed(name: str) -> None:
    """One line, one argument for the shell, no way out of a fence."""
    import shlex

    command = command_for(name)
    assert command.isprintable()
    if command != "replay BUNDLE":
        words = shlex.split(command)
        assert words in (["replay", name], ["replay", f"./{name}"])
    _assert_inert_markdown(markdown(Document(id="0" * 64, title=("x",), facts=(), command=command)))


def test_a_saved_result_is_checked_before_it_is_believed(bundle: Path, replay: Run) -> None:
    """Of another bundle, broken, or enormous: left out, and said."""
    result = Path(f"{bundle}.replay.json")
    for content, words in (
        ("{", "not a valid replay result"),
        ("[" * 10_000, "not a valid replay result"),
        ('{"verdict": "bit-exact"}', "not a valid replay result"),
    ):
        result.write_text(content)
        ended = replay("ticket", bundle)
        assert ended.code == 0
        assert words in ended.err
        assert "not replayed yet" in ended.out
    _hostile_result(bundle, "ab" * 32)
    ended = replay("ticket", bundle)
    assert "is of another bundle" in ended.err
    assert "diverged" not in ended.out


def test_what_is_said_of_models_and_verdict(bundle: Path, replay: Run) -> None:
    """Where the model is held, in words that give no directory away."""
    models = bundle.parent / "models"
    models.mkdir()
    (models / f"{'ab' * 32}.safetensors").write_bytes(b"x")
    assert "held in models/ beside the bundle" in replay("ticket", bundle).out
    other = models.rename(models.with_name("store"))
    assert "held in the store `" in replay("ticket", bundle, "--models", other).out
    with Bundle.open(bundle) as opened:
        _hostile_result(bundle, opened.id)
        verdict = saved_verdict(str(bundle), opened.id)
        document = describe(opened, verdict, ModelLocations(directories=()), None)
    assert verdict.level == "diverged"
    assert [fact.name for fact in document.facts][:3] == ["Verdict", "Trigger", "Cause"]


def _document(*claims: Claim) -> Document:
    facts = tuple(Fact("Trigger", (each, ": ", each, " (value 1)")) for each in claims)
    return Document(id="0" * 64, title=("Incident: ", claims[0]), facts=facts, command="replay x.zst")


def _hostile_result(bundle: Path, bundle_id: str) -> None:
    result = {
        "format": "vision-flight-recorder replay", "format_version": {"major": 1, "minor": 0}, "bundle": bundle_id,
        "verdict": "diverged", "reproduced": False, "failure_reproduced": None, "numerics": "here",
        "not_restored": [STRING], "frames": [], "conclusion": STRING + "".join(ACTIVE), "remedies": [STRING],
        "exit_code": 1,
    }  # fmt: skip
    Path(f"{bundle}.replay.json").write_text(json.dumps(result))


def _assert_inert_markdown(text: str) -> None:
    """Everything but our own few forms is text in a code span; nothing that GitHub or GitLab add stands outside."""
    assert not [c for c in text if unicodedata.category(c)[0] == "C" and c != "\n"]
    assert not [line for line in text.splitlines() if line.startswith("/")]
    head, _, body = text.partition("\n") if text.startswith("<!-- ") else ("", "", text)
    assert re.fullmatch(r"(<!-- vision-flight-recorder ticket [0-9a-f]{64}( [a-z]+=[A-Za-z0-9/._-]+)* -->)?", head)
    allowed = {"heading", "bullet_list", "list_item", "paragraph", "inline", "text", "strong", "code_inline", "fence"}
    parser = MarkdownIt("gfm-like", {"linkify": False, "html": True})
    for token in _tokens(parser.parse(body)):
        kind = token.type.removesuffix("_open").removesuffix("_close")
        if kind == "image":
            assert re.match(r"data:image/jpeg;base64,|/uploads/[0-9a-f]{32}/", str(token.attrs["src"]))
            continue
        if kind == "link":
            assert token.type == "link_close" or str(token.attrs["href"]).startswith("/uploads/")
            continue
        assert kind in (*allowed, "softbreak"), token
        if kind == "text":
            assert not re.search(r"[@<>`\[\]!$~{}\\|]|https?:|www\.|#\d", token.content), token.content
        if kind == "fence":
            assert token.content.startswith("replay ")
            assert token.content.count("\n") == 1


def _tokens(tokens: Any) -> Iterator[Any]:
    for token in tokens:
        yield token
        if token.type != "image":
            yield from _tokens(token.children or ())


def _assert_inert_wiki(text: str) -> None:
    """Outside of the two verbatim blocks stand a heading, a picture of ours and the marker; inside no brace."""
    outside, facts, between, command, rest = text.split("{noformat}")
    assert outside == "h3. Incident\n\n" and between == "\n\n"
    assert not re.search(r"[{}]", facts + command) and command.count("\n") == 2
    assert re.fullmatch(
        r"\n\n(![A-Za-z0-9.-]+\.jpg\|thumbnail!\n\n)?_vision-flight-recorder ticket [0-9a-f]{64}_", rest
    )


def _assert_inert_adf(node: Any) -> None:
    """Of the types that act (mention, inlineCard, emoji, a link mark, extension …) there is none."""
    assert node["type"] in (
        "doc", "heading", "bulletList", "listItem", "paragraph", "text", "codeBlock", "mediaSingle", "media",
    )  # fmt: skip
    assert {mark["type"] for mark in node.get("marks", ())} <= {"strong", "code", "em"}
    if node["type"] == "media":
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/rest/api/3/attachment/content/\d+", node["attrs"]["url"])
    if node["type"] == "text":
        assert node["text"]
        assert node["text"].isprintable()
        if not node.get("marks"):
            assert not re.search(r"[@<>`\[\]!$~{}\\|]|https?:", node["text"])
    for child in node.get("content", ()):
        _assert_inert_adf(child)


def _assert_inert_blocks(node: Any) -> None:
    """Only text elements: no user, channel, broadcast, link, emoji or mrkdwn object."""
    if isinstance(node, list):
        for each in node:
            _assert_inert_blocks(each)
        return
    assert node["type"] in ("rich_text", "rich_text_section", "rich_text_list", "rich_text_preformatted", "text")
    if node["type"] == "text":
        assert node["text"].isprintable()
        assert set(node.get("style", ())) <= {"code", "bold"}
    for child in node.get("elements", ()):
        _assert_inert_blocks(child)
