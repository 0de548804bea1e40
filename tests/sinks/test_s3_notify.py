"""Incidents in a bucket that file themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recorder.sealer.filing import Filing
from recorder.sinks.s3.sink import S3Sink
from tests.bundles import small_bundle
from tests.sinks.proxy import FaultyProxy
from tests.ticket import server


def test_the_bucket_of_the_options_is_the_tickets_too(
    tmp_path: Path, s3: Any, bucket: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint and a region may stand in the recorder's options alone."""
    bundle = small_bundle(tmp_path / "a.zst")
    s3.put_object(Bucket=bucket, Key="p/a.zst", Body=bundle.read_bytes())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GITHUB_TOKEN", server.TOKEN)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    address = f"s3://{bucket}/p"
    options = {"spool": str(tmp_path / "spool"), "endpoint_url": proxy.url, "region": "us-east-1"}
    with server.GitHub().running() as tracker:
        monkeypatch.setenv("REPLAY_GITHUB_URL", tracker.url)
        sink = S3Sink(address, **options).apart()
        filing = Filing(f"ticket:{server.GitHub.address}", address, pauses_seconds=(), variables=sink.variables())
        failed: list[dict[str, Any]] = []
        filing.file(f"{address}/a.zst", failed.append)
        filing.stop()
        assert not failed
        [text] = tracker.texts()
    assert f"at `{address}/a.zst`" in text
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert len([key for key in keys if key.startswith("p/.claims/")]) == 1
