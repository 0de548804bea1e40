"""The whole way of an incident, gone as its script goes it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.whole_way import walk


def test_an_incident_goes_from_a_service_by_a_bucket_to_a_ticket_and_a_desk(tmp_path: Path) -> None:
    """Filed once by itself, replayed bit for bit with the model of the bucket; the ticket holds the object's bytes."""
    outcome = walk(tmp_path)
    assert outcome.verdict["verdict"] == "bit-exact" and outcome.verdict["failure_reproduced"] is True
    assert sorted(key.rpartition("/")[2].partition(".")[2] for key in outcome.models) == ["graph.json", "safetensors"]
    assert outcome.by_itself == len(outcome.claims) == len(outcome.comments) == 1
    name = outcome.location.rpartition("/")[2]
    assert [digest for attached, digest in outcome.attachments if attached == name] == [outcome.object_sha256]
