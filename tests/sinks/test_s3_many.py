"""Catalogue, fleet and suite over a bucket: ranges where they are enough, and whatever is wrong costs one incident."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.sinks.s3.source import reading_client
from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay
from tests.sinks.proxy import FaultyProxy, Request
from tests.suite.conftest import MODELS, incident

__all__ = ["replay"]  # a fixture

CANDIDATE = ("--model", f"{MODELS}:scores", "--weights", "recorded")


@pytest.fixture
def gone(proxy: FaultyProxy) -> Iterator[str]:
    """The name of an object that is deleted by somebody else after it was listed."""

    def fault(request: Request) -> str | None:
        return "404 NoSuchKey" if request.method != "PUT" and "gone.zst" in request.path else None

    proxy.fault = fault
    yield "gone.zst"
    proxy.fault = lambda request: None


def test_a_bucket_is_catalogued_by_its_manifests(
    s3: Any, bucket: str, proxy: FaultyProxy, gone: str, tmp_path: Path, replay: Run
) -> None:
    """Two damaged ones and one that vanished are named; the rest of an incident stays where it is."""
    sizes = 0
    for number in range(3):
        path = small_bundle(tmp_path / "a.zst", seed=number, height=480, width=640)
        s3.put_object(Bucket=bucket, Key=f"p/2026/{number}.zst", Body=path.read_bytes())
        sizes += path.stat().st_size
    s3.put_object(Bucket=bucket, Key=f"p/{gone}", Body=b"anything")
    s3.put_object(Bucket=bucket, Key="p/torn.zst", Body=path.read_bytes()[:-100])
    s3.put_object(Bucket=bucket, Key="p/noise.zst", Body=bytes(range(256)))
    proxy.forget()
    added = replay("catalog", "add", f"s3://{bucket}/p", "--db", tmp_path / "c.db", "--json")
    assert added.code == 0, added.err
    told = added.json()
    assert (told["listed"], told["new"]) == (6, 3)
    assert {each["path"].rpartition("/")[2] for each in told["unreadable"]} == {gone, "torn.zst", "noise.zst"}
    assert proxy.answered_bytes < sizes / 4
    proxy.forget()
    assert replay("catalog", "add", f"s3://{bucket}/p", "--db", tmp_path / "c.db", "--json").json()["unchanged"] == 6
    seen = replay("catalog", "similar", f"s3://{bucket}/p/2026/1.zst", "--db", tmp_path / "c.db", "--json")
    assert seen.code == 1 and not seen.json()["seen"], seen.err


def test_a_fleet_runs_over_a_bucket(s3: Any, bucket: str, gone: str, tmp_path: Path, replay: Run) -> None:
    """Interrupted by nothing that is wrong with one of them."""
    path = incident(tmp_path / "incident")
    for name in ("20260101T000000.000000Z-a.zst", "20260101T000001.000000Z-b.zst", gone):
        s3.put_object(Bucket=bucket, Key=f"p/{name}", Body=path.read_bytes())
    s3.put_object(Bucket=bucket, Key="p/torn.zst", Body=path.read_bytes()[:-100])
    done = replay("fleet", "run", f"s3://{bucket}/p", *CANDIDATE, "-o", tmp_path / "out", "--jobs", "2", "--json")
    assert done.code == 3 and done.json()["outcomes"] == {"reproduced": 2, "unreadable": 2}, done.err
    assert gone in (tmp_path / "out" / "summary.html").read_text()
    added = replay(
        "suite", "add", f"s3://{bucket}/p/20260101T000000.000000Z-a.zst", "--to", tmp_path / "suite",
        "--name", "unsure", "--expect", "class=2", "--whole",
    )  # fmt: skip
    assert added.code == 0 and (tmp_path / "suite" / "unsure.zst").exists(), added.err


@pytest.mark.parametrize("words", [["catalog", "add"], ["fleet", "run"]])
def test_a_bucket_that_is_not_there_is_one_sentence(s3: Any, words: list[str], tmp_path: Path, replay: Run) -> None:
    where = ["--db", tmp_path / "c.db"] if words[0] == "catalog" else ["-o", tmp_path / "out"]
    done = replay(*words, "s3://no-such-bucket-anywhere/p", *where)
    assert done.code in (2, 3) and "no such bucket" in done.err and len(done.err.strip().splitlines()) == 1, done.err


def test_where_access_is_denied_each_command_says_so_in_one_sentence(
    s3: Any, bucket: str, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves nothing behind that looks like a result."""
    s3.put_object(Bucket=bucket, Key="p/a.zst", Body=small_bundle(tmp_path / "a.zst").read_bytes())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    reading_client.cache_clear()
    for words in (
        ("catalog", "add", f"s3://{bucket}/p", "--db", tmp_path / "c.db"),
        ("fleet", "run", f"s3://{bucket}/p", "-o", tmp_path / "out"),
        ("suite", "add", f"s3://{bucket}/p/a.zst", "--to", tmp_path / "suite", "--expect", "class=2"),
    ):
        denied = replay(*words)
        assert denied.code == 2 and len(denied.err.strip().splitlines()) == 1, denied.err
        assert "denied" in denied.err.lower() or "credentials" in denied.err.lower(), denied.err
    assert not (tmp_path / "suite").exists() and not list((tmp_path / "out").glob("*"))
