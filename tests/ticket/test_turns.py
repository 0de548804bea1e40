"""Who counts, while others want to: one at a time, nobody for ever, and no more said than there is to say."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle
from recorder.sinks import DirectorySink, SinkUnavailable
from recorder.sinks.claims import DirectoryClaims
from replay.ticket import once
from replay.ticket.once import Occasion
from tests.cli.conftest import assert_one_sentence
from tests.ticket.conftest import File
from tests.ticket.test_once import _incidents


def _occasion(path: Path, target: str) -> Occasion:
    with Bundle.open(path) as opened:
        return Occasion.of(opened.manifest.incident, opened.id, str(path), target)


def test_whoever_cannot_count_says_so(start: Any, tmp_path: Path, file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ticket gets the number from a later run: the incident has been noted."""
    tracker, sink = start("github"), tmp_path / "sink"
    first, second = _incidents(sink, 2)
    assert file(tracker, first, "--once", sink).code == 0
    monkeypatch.setattr(once, "_PATIENCE_SECONDS", 0.0)
    turn = f"{_occasion(second, tracker.address).key}-count"
    claims = DirectorySink(sink).claims()
    claims.take(turn, json.dumps({"began": time.time()}).encode())
    ended = file(tracker, second, "--once", sink)
    assert ended.code == 3
    assert_one_sentence(ended.err, ["others are counting", "again later"])
    claims.drop(turn)
    assert file(tracker, second, "--once", sink).code == 0
    assert "recorded once more" in tracker.texts()[1]


@pytest.mark.parametrize("turn", [b"", b"{", b'{"began": "x"}', b'{"began": 1e300}', b'{"began": 12.5}', b"[]"])
def test_a_turn_that_was_never_given_back_is_taken(turn: bytes, start: Any, tmp_path: Path, file: File) -> None:
    """Its process was killed, its clock was wrong, or somebody wrote what they liked."""
    tracker, sink = start("github"), tmp_path / "sink"
    first, second = _incidents(sink, 2)
    assert file(tracker, first, "--once", sink).code == 0
    claims = DirectorySink(sink).claims()
    claims.take(f"{_occasion(second, tracker.address).key}-count", turn)
    assert file(tracker, second, "--once", sink).code == 0
    assert len(tracker.texts()) == 2
    assert not [name for name in claims.names("") if name.endswith("-count")]


def test_a_claim_given_back_meanwhile_is_taken(
    start: Any, tmp_path: Path, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever comes third would file a second ticket."""
    tracker, sink = start("github"), tmp_path / "sink"
    first, second = _incidents(sink, 2)
    take = DirectoryClaims.take
    refused = [True]

    def lost(claims: DirectoryClaims, name: str, content: bytes) -> bool:
        return False if refused and refused.pop() else take(claims, name, content)

    monkeypatch.setattr(DirectoryClaims, "take", lost)
    assert file(tracker, first, "--once", sink, "--json").json()["counted_on"] is None
    assert file(tracker, second, "--once", sink, "--json").json()["counted_on"] is not None


def test_the_list_names_the_first_and_no_directory(start: Any, tmp_path: Path, file: File) -> None:
    """The first may never have been filed: its process was killed. Directories of other machines are nobody's news."""
    tracker, sink = start("github"), tmp_path / "sink"
    first, second = _incidents(sink, 2)
    occasion = _occasion(first, tracker.address)
    DirectorySink(sink).claims().take(occasion.key, occasion.to_bytes())
    assert file(tracker, second, "--once", sink).code == 0
    [text] = tracker.texts()
    assert f"first of all bundle {occasion.bundle[:12]}, at `incident-0.zst`" in text
    assert "at `incident-1.zst`" in text
    assert str(tmp_path) not in text


def test_a_list_that_was_quicker_than_its_message_is_updated(start: Any, tmp_path: Path, file: File) -> None:
    """Slack has a thread only once there is a message: the list stands beside it then, once."""
    tracker, sink = start("slack"), tmp_path / "sink"
    first, second, third = _incidents(sink, 3)
    occasion = _occasion(first, tracker.address)
    DirectorySink(sink).claims().take(occasion.key, occasion.to_bytes())
    for bundle in (second, first, third):
        assert file(tracker, bundle, "--once", sink).code == 0
    assert len(tracker.texts()) == 2
    assert "recorded 2 times more" in tracker.texts()[0]


def test_claims_that_cannot_be_given_back_hide_no_news(
    start: Any, tmp_path: Path, file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket's policy may let claims be made and not be deleted."""
    tracker, sink = start("github"), tmp_path / "sink"
    first, second, third = _incidents(sink, 3)

    def denied(claims: DirectoryClaims, name: str) -> None:
        raise SinkUnavailable("s3://bucket/.claims: access is denied.")

    monkeypatch.setattr(DirectoryClaims, "drop", denied)
    tracker.faults = [(500, {}, b"")]
    assert_one_sentence(file(tracker, first, "--once", sink).err, ["GitHub refuses (500"])
    for bundle in (first, second):
        assert file(tracker, bundle, "--once", sink).code == 0
    monkeypatch.setattr(once, "_TURN_SECONDS", 0.0)
    assert file(tracker, third, "--once", sink).code == 0
    assert "recorded 2 times more" in tracker.texts()[1]
