"""What stands in a spool while others work on it, and what will not leave it."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from recorder.sinks.directory import DirectorySink
from recorder.sinks.s3 import upload
from recorder.sinks.s3.client import connect
from recorder.sinks.s3.sink import S3Sink
from tests.sinks.conformance import BUNDLE_HEAD
from tests.sinks.proxy import FaultyProxy
from tests.waiting import wait_for

QUICK = {"retry_seconds": 0.01, "max_retry_seconds": 0.02}


def test_a_bundle_that_is_brought_away_at_once_is_published_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload under way takes the next bundle as soon as it is in the spool, before `publish` has returned."""
    place = DirectorySink.publish

    def taken_along(spool: DirectorySink, local_file: Path, name: str) -> str:
        location = place(spool, local_file, name)
        Path(location).unlink()
        return location

    monkeypatch.setattr(DirectorySink, "publish", taken_along)
    bundle = tmp_path / "new.zst"
    bundle.write_bytes(BUNDLE_HEAD)
    sink = S3Sink("s3://bucket/p", spool=str(tmp_path / "spool"))
    location = sink.put_into_spool(bundle, "20260301T030000.000000Z-a.zst")
    assert location == "s3://bucket/p/2026-03-01/20260301T030000.000000Z-a.zst"


def test_credentials_whose_file_is_gone_are_told_and_waited_for(
    tmp_path: Path, s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a token that a volume renews; it was taken for a bundle that was swept, and tried again without a pause."""
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        patch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/writer")
        faults: list[str] = []
        sink = S3Sink(f"s3://{bucket}/p", spool=str(tmp_path / "spool"), **QUICK)
        sink.start(arrived=lambda location: None, fault=lambda reason, sentence: faults.append(reason))
        try:
            bundle = tmp_path / "new.zst"
            bundle.write_bytes(BUNDLE_HEAD)
            sink.publish(bundle, "20260301T030000.000000Z-a.zst")
            wait_for(lambda: faults)
            assert set(faults) == {"upload: FileNotFoundError"} and len(sink.waiting()) == 1
            patch.undo()
            assert sink.flush(60)
        finally:
            sink.close()


def test_a_bundle_that_nobody_takes_does_not_keep_the_models_here(
    tmp_path: Path, s3: Any, bucket: str, proxy: FaultyProxy
) -> None:
    """A policy may deny one prefix and allow another."""
    proxy.fault = lambda request: "403 AccessDenied" if "/2026-" in request.path else None
    content = b"weights"
    name = f"{hashlib.sha256(content).hexdigest()}.safetensors"
    sink = S3Sink(f"s3://{bucket}/p", spool=str(tmp_path / "spool"), **QUICK)
    try:
        (tmp_path / "spool" / "models").mkdir(parents=True, mode=0o700)
        (tmp_path / "spool" / "models" / name).write_bytes(content)
        bundle = tmp_path / "new.zst"
        bundle.write_bytes(BUNDLE_HEAD)
        sink.publish(bundle, "20260301T030000.000000Z-a.zst")
        wait_for(lambda: name in sink.settled_models)
        assert s3.get_object(Bucket=bucket, Key=f"p/models/{name}")["Body"].read() == content
        assert len(sink.waiting()) == 1
        proxy.fault = lambda request: None
        assert sink.flush(60)
    finally:
        sink.close()


def test_an_upload_that_was_finished_unheard_is_not_sent_again(
    tmp_path: Path, s3: Any, bucket: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was killed between the answer to the last request and removing file and note."""
    monkeypatch.setattr(upload, "_SINGLE_BYTES", 6 * 2**20)
    bundle = tmp_path / "new.zst"
    bundle.write_bytes(BUNDLE_HEAD + bytes(9 * 2**20))
    kept = bundle.read_bytes()
    name = "20260301T030000.000000Z-a.zst"
    sink = S3Sink(f"s3://{bucket}/p", spool=str(tmp_path / "spool"), **QUICK)
    try:
        sink.publish(bundle, name)
        assert sink.flush(60)
    finally:
        sink.close()
    [number] = {found[1] for each in proxy.requests if (found := re.search(r"uploadId=([^&]+)", each.path))}
    noted = {"upload": unquote(number), "key": f"p/2026-03-01/{name}", "sha256": hashlib.sha256(kept).hexdigest()}
    (tmp_path / "spool" / f".{name}.upload").write_text(json.dumps(noted))
    (tmp_path / "spool" / name).write_bytes(kept)
    proxy.forget()
    sink = S3Sink(f"s3://{bucket}/p", spool=str(tmp_path / "spool"), **QUICK)
    arrived: list[str] = []
    try:
        sink.start(arrived.append, lambda reason, sentence: None)
        assert sink.flush(60)
    finally:
        sink.close()
    assert arrived == [f"s3://{bucket}/p/2026-03-01/{name}"]
    assert {each.method for each in proxy.requests} <= {"GET", "HEAD"}
    assert [each.name for each in (tmp_path / "spool").iterdir()] == [".uploading.lock"]


@pytest.mark.parametrize(
    ("given", "variables", "region"),
    [
        (None, {"AWS_REGION": "eu-west-3"}, "eu-west-3"),
        (None, {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-3"),
        (None, {"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ("eu-north-1", {"AWS_REGION": "eu-west-3"}, "eu-north-1"),
    ],
)
def test_the_region_is_what_the_remedy_says(
    given: str | None, variables: dict[str, str], region: str, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences and pages say AWS_REGION, which boto3 itself does not read."""
    monkeypatch.delenv("AWS_REGION")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = connect(region=given)
    assert client.meta.region_name == region
    client.close()
