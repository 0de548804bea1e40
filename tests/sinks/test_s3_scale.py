"""Suite, catalogue and fleet out of a bucket: what is missing, vanished or denied is named, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recorder.sinks.s3.source import reading_client
from replay import listing
from replay.opening import Opening
from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay
from tests.sinks.proxy import FaultyProxy
from tests.suite.conftest import MODELS, incident

__all__ = ["replay"]  # a fixture


def put(s3: Any, bucket: str, key: str, path: Path) -> str:
    """Upload a bundle; its address."""
    s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    return f"s3://{bucket}/{key}"


def vanishes(monkeypatch: pytest.MonkeyPatch, s3: Any, bucket: str, key: str) -> None:
    """Delete an object once it was listed, before it is opened."""
    whole = Opening.open

    def late(self: Opening, location: str) -> Any:
        s3.delete_object(Bucket=bucket, Key=key)
        return whole(self, location)

    monkeypatch.setattr(Opening, "open", late)


def test_a_catalogue_of_a_bucket_moves_manifests_and_goes_on_without_what_vanished(
    s3: Any, bucket: str, proxy: FaultyProxy, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bundle is 1.3 MB of noise, of which the catalogue needs a few kilobytes."""
    path = small_bundle(tmp_path / "one.zst", frames=4, height=320, width=320)
    size = path.stat().st_size
    assert size > 1_000_000
    location = put(s3, bucket, "p/one.zst", path)
    put(s3, bucket, "p/two.zst", small_bundle(tmp_path / "two.zst", frames=4, height=320, width=320, seed=2))
    put(s3, bucket, "p/vanished.zst", path)
    s3.put_object(Bucket=bucket, Key="p/broken.zst", Body=b"no bundle")
    db = tmp_path / "catalog.db"
    vanishes(monkeypatch, s3, bucket, "p/vanished.zst")
    proxy.forget()
    done = replay("catalog", "add", f"s3://{bucket}/p", "--db", db, "--json")
    assert done.code == 0, done.err
    told = done.json()
    assert (told["listed"], told["new"]) == (4, 2)
    named = {each["path"].rpartition("/")[2]: each["problem"] for each in told["unreadable"]}
    assert set(named) == {"broken.zst", "vanished.zst"} and "\n" not in "".join(named.values())
    assert proxy.answered_bytes < size / 2, proxy.answered_bytes
    again = replay("catalog", "similar", location, "--db", db, "--json")
    assert again.code in (0, 1) and again.json()["bundle"]
    missing = replay("catalog", "add", f"s3://{bucket}-not/p", "--db", db)
    assert missing.code == 2 and "Traceback" not in missing.err and len(missing.err.strip().splitlines()) == 1


def test_a_fleet_of_a_bucket_names_what_vanished_and_replays_the_others(
    s3: Any, bucket: str, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = incident(tmp_path / "incident")
    put(s3, bucket, "p/good.zst", path)
    put(s3, bucket, "p/vanished.zst", path)
    vanishes(monkeypatch, s3, bucket, "p/vanished.zst")
    words = ("fleet", "run", f"s3://{bucket}/p", "--model", f"{MODELS}:scores", "-o", tmp_path / "out", "--jobs", 2)
    done = replay(*words, "--json")
    assert done.code == 3, done.err
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    outcomes = {line["location"].rpartition("/")[2]: line["outcome"] for line in lines}
    assert outcomes["vanished.zst"] == "unreadable" and outcomes["good.zst"] not in ("unreadable", "cannot run")
    missing = replay("fleet", "run", f"s3://{bucket}-not/p", "-o", tmp_path / "none")
    assert missing.code == 2 and len(missing.err.strip().splitlines()) == 1
    assert listing.bundles_of(f"s3://{bucket}/p")


def test_a_case_comes_out_of_a_bucket_and_a_denied_one_is_one_sentence(
    s3: Any, bucket: str, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = put(s3, bucket, "p/a.zst", incident(tmp_path / "incident"))
    words = ("suite", "add", location, "--to", tmp_path / "suite", "--expect", "class=2", "--name", "a", "--whole")
    done = replay(*words)
    assert done.code == 0, done.err
    assert replay("suite", "run", tmp_path / "suite", "--model", f"{MODELS}:scores").code == 0
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    reading_client.cache_clear()
    for refused in (
        (*words[:-2], "b"),
        ("catalog", "add", f"s3://{bucket}/p", "--db", tmp_path / "c.db"),
        ("fleet", "run", f"s3://{bucket}/p", "-o", tmp_path / "out"),
    ):
        denied = replay(*refused)
        assert denied.code == 2 and len(denied.err.strip().splitlines()) == 1, denied.err
