"""One ticket for one defect and hour across a fleet, the rest counted on it; and incidents that file themselves."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder import FlightRecorder, triggers
from recorder.bundle import Bundle
from recorder.sealer.filing import Filing
from recorder.settings import RecorderSettings
from recorder.sinks import DirectorySink
from replay.ticket.once import Occasion
from tests.bundles import small_bundle
from tests.cli.conftest import Run, assert_one_sentence, rewrite
from tests.ticket.conftest import KINDS, File
from tests.waiting import wait_for

SIGNATURE = "5" * 16


def _incidents(sink: Path, count: int, *, signature: str = SIGNATURE, after_seconds: float = 1.0) -> list[Path]:
    """Incidents of one defect, some time apart."""
    sink.mkdir(exist_ok=True)
    original = small_bundle(sink.parent / "original.zst")
    made = []
    for number in range(count):

        def change(manifest: Any, number: int = number) -> Any:
            shift = int(number * after_seconds * 1e9)
            incident = dataclasses.replace(
                manifest.incident,
                id=f"{number + 1:032x}",
                signature=signature,
                opened_ns=manifest.incident.opened_ns + shift,
            )
            return dataclasses.replace(manifest, incident=incident)

        made.append(rewrite(original, sink / f"incident-{number}.zst", change))
    original.unlink()
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_later_incidents_are_counted_on_the_ticket(kind: str, start: Any, tmp_path: Path, file: File) -> None:
    """The first is filed, the others are a number and a list below it."""
    tracker = start(kind)
    bundles = _incidents(tmp_path / "sink", 3)
    said = [file(tracker, bundle, "--once", tmp_path / "sink", "--json").json() for bundle in bundles]
    with Bundle.open(bundles[0]) as opened:
        first = opened.id
    assert [each["counted_on"] for each in said] == [None, first, first]
    texts = tracker.texts()
    if kind == "webhook":
        assert [each.json()["event"] for each in tracker.requests] == ["incident", "recurrence", "recurrence"]
        assert {each.json()["parent"] for each in tracker.requests[1:]} == {first}
        assert "recorded 2 times more" in texts[2]
        return
    assert len(texts) == 2
    assert "low_confidence" in texts[0]
    assert "recorded 2 times more within the hour" in texts[1]
    assert "incident-1.zst" in texts[1]
    assert "incident-2.zst" in texts[1]
    if kind == "slack":
        assert tracker.messages[-1]["thread_ts"] == tracker.messages[0]["ts"]


def test_another_hour_or_another_defect_is_another_ticket(start: Any, tmp_path: Path, file: File) -> None:
    """And the same bundle again is an update, not a recurrence."""
    tracker = start("github")
    sink = tmp_path / "sink"
    first, next_hour = _incidents(sink, 2, after_seconds=3700)
    [other] = _incidents(tmp_path / "other", 1, signature="6" * 16)
    for bundle in (first, next_hour, other, first):
        assert file(tracker, bundle, "--once", sink, "--json").json()["counted_on"] is None
    assert len(tracker.texts()) == 3


def test_a_fleet_files_once(start: Any, tmp_path: Path) -> None:
    """Eight machines see the same defect in the same moment: one ticket, seven counted."""
    from replay.ticket.filing import Ticket, connect, file_ticket
    from replay.ticket.once import file_once
    from replay.ticket.tracker import parse_address

    tracker = start("github")
    bundles = _incidents(tmp_path / "sink", 8)
    ready = threading.Barrier(len(bundles))
    counted: list[str | None] = []

    def machine(path: Path) -> None:
        from replay.load import ModelLocations
        from replay.ticket.facts import describe, saved_verdict

        with Bundle.open(path) as opened:
            document = describe(opened, saved_verdict(str(path), opened.id), ModelLocations(directories=()), None)
            ticket = Ticket(document=document, location=str(path), attachment=None)
            occasion = Occasion.of(opened.manifest.incident, opened.id, str(path), tracker.address)
        connected = connect(parse_address(tracker.address), tracker.url, 30.0)
        ready.wait(120)
        claims = DirectorySink(tmp_path / "sink").claims()
        counted.append(file_once(occasion, claims, connected, lambda: file_ticket(ticket, connected)[0])[1])

    threads = [threading.Thread(target=machine, args=(path,)) for path in bundles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted.count(None) == 1
    # Whoever counts may be quicker than whoever files.
    [incident, recurrences] = sorted(tracker.texts(), key=lambda text: "low_confidence" not in text)
    assert "low_confidence" in incident
    assert "recorded 7 times more" in recurrences


def test_a_claim_is_given_back_when_filing_fails(start: Any, tmp_path: Path, file: File) -> None:
    """The next incident files."""
    tracker = start("gitlab")
    first, second = _incidents(tmp_path / "sink", 2)
    tracker.faults = [(500, {}, b"")]
    assert file(tracker, first, "--once", tmp_path / "sink").code == 3
    assert file(tracker, second, "--once", tmp_path / "sink", "--json").json()["counted_on"] is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"bundle": "x"}', b'{"bundle": 1, "opened_ns": [], "location": {}}', b"x" * 100_000]
)
def test_a_claim_that_anybody_wrote_is_checked(content: bytes, start: Any, tmp_path: Path, file: File) -> None:
    """One that says nothing usable does not keep an incident from being filed."""
    tracker = start("gitlab")
    sink = tmp_path / "sink"
    [bundle] = _incidents(sink, 1)
    with Bundle.open(bundle) as opened:
        occasion = Occasion.of(opened.manifest.incident, opened.id, str(bundle), tracker.address)
    DirectorySink(sink).claims().take(occasion.key, content)
    assert file(tracker, bundle, "--once", sink).code == 0
    assert len(tracker.texts()) == 1


def test_a_sink_without_claims_is_said(start: Any, bundle: Path, file: File) -> None:
    """A factory's sink may have none."""
    ended = file(start("github"), bundle, "--once", f"{__name__}:make_sink")
    assert ended.code == 2
    assert_one_sentence(ended.err, ["hold claims"])


def test_a_sink_that_cannot_be_written_is_said(start: Any, bundle: Path, file: File) -> None:
    """Exit code 3, and nothing was filed."""
    tracker = start("github")
    ended = file(tracker, bundle, "--once", bundle)
    assert ended.code == 3
    assert_one_sentence(ended.err, ["no claim can be made in"])
    assert tracker.texts() == []


def make_sink() -> Any:
    """A sink that only knows bundles."""

    class Plain(DirectorySink):
        def claims(self) -> Any:
            return None

    return Plain("unused")


def test_what_waits_to_be_filed_is_tried_again_and_counted(tmp_path: Path) -> None:
    """Exit code 3 may pass, 2 never does; the sealing thread waits for neither."""
    log = tmp_path / "log"
    program = (
        "import sys, pathlib; log = pathlib.Path(sys.argv[1]); log.open('a').write(' '.join(sys.argv[2:]) + '\\n');"
        "name = sys.argv[-1]; tries = log.read_text().count(name);"
        "print('replay: no', file=sys.stderr); sys.exit(2 if name == 'bad' else 3 if tries < 3 else 0)"
    )
    filing = Filing("ticket:jira:LINE-7", "/sink", [sys.executable, "-c", program, str(log)], (0.0, 0.0, 0.0))
    reports: list[dict[str, Any]] = []
    filing.file("good", reports.append)
    filing.file("bad", reports.append)
    wait_for(lambda: bool(reports))
    filing.stop()
    lines = log.read_text().splitlines()
    assert lines == ["--to jira:LINE-7 --once /sink -- good"] * 3 + ["--to jira:LINE-7 --once /sink -- bad"]
    assert reports == [{"event": "notify-failed", "reason": "replay: no"}]


def test_an_incident_files_itself(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a model's bad answer to the attachment, which is the sealed bundle byte for byte."""
    import torch

    tracker = start("gitlab")
    monkeypatch.setenv("REPLAY_GITLAB_URL", tracker.url)
    sink = tmp_path / "incidents"
    with FlightRecorder(sink=sink, triggers=[triggers.non_finite()], notify=f"ticket:{tracker.address}") as recorder:
        model = recorder.attach(torch.nn.Identity())
        with recorder.frame(image=np.zeros((24, 32, 3), np.uint8), camera="line-3"):
            model(torch.tensor([[float("nan")]]))
        recorder.flush(timeout=120)
        wait_for(lambda: bool(tracker.texts()))
        assert "notify-failed" not in recorder.stats().errors
    [sealed] = sink.glob("*.zst")
    assert (sealed.name, sealed.read_bytes()) in tracker.files
    assert "non_finite" in tracker.texts()[0]
    claims = DirectorySink(sink).claims()
    wait_for(lambda: len(claims.names("")) == 1)
    assert json.loads(claims.read(claims.names("")[0]) or b"")["location"] == str(sealed)


@pytest.mark.parametrize("notify", ["ticket:", "ticket:trello:x", "ticket:jira:", "ticket:jira:LINE 7", "ticket"])
def test_a_wrong_notify_is_said_at_construction(notify: str, tmp_path: Path) -> None:
    """ValueError, as for every wrong argument."""
    with pytest.raises(ValueError, match="ticket:jira:KEY-1"):
        FlightRecorder(sink=tmp_path, notify=notify)
    assert RecorderSettings  # nothing was started


def test_a_link_is_only_for_a_bucket_and_only_in_private(start: Any, bundle: Path, replay: Run, file: File) -> None:
    """A local file has no address; a public repository gets no link that needs no credentials."""
    assert_one_sentence(file(start("github"), bundle, "--presign", "12h").err, ["needs a bundle in a bucket"])
    for span in ("8d", "0h", "12", "x"):
        ended = file(start("github"), bundle, "--presign", span)
        assert ended.code == 2
        assert_one_sentence(ended.err, ["at most 7d"])
    assert_one_sentence(replay("ticket", bundle, "--presign", "12h").err, ["need --to"])


@pytest.mark.parametrize("kind", ["github", "gitlab", "jira", "slack", "webhook"])
@pytest.mark.parametrize("private", [True, False])
def test_a_link_is_refused_where_strangers_read(
    kind: str, private: bool, start: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot be known, too."""
    from replay.load import ModelLocations
    from replay.ticket.errors import AddressInvalid
    from replay.ticket.facts import describe, saved_verdict
    from replay.ticket.filing import Ticket, connect, file_ticket
    from replay.ticket.tracker import parse_address

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never-shown")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    tracker = start(kind)
    tracker.private, tracker.visibility = private, "private" if private else "public"
    with Bundle.open(bundle) as opened:
        location = "s3://incidents/line/a bundle.zst"
        document = describe(opened, saved_verdict(location, opened.id), ModelLocations(directories=()), None)
    ticket = Ticket(document=document, location=location, attachment=None, presign_seconds=3600)
    connected = connect(parse_address(tracker.address), tracker.url + tracker.base, 30.0)
    if private and kind in ("github", "gitlab"):
        file_ticket(ticket, connected)
        [text] = tracker.texts()
        assert "X-Amz-Expires=3600" in text
        assert "never-shown" not in text
        assert "replay 's3://incidents/line/a bundle.zst'" in text
    else:
        with pytest.raises(AddressInvalid, match="strangers may read"):
            file_ticket(ticket, connected)
        assert tracker.texts() == []
