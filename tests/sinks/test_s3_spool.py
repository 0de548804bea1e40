"""What stands in a spool while others work on it, and what will not leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.sinks.directory import DirectorySink
from recorder.sinks.s3.sink import S3Sink
from tests.sinks.conformance import BUNDLE_HEAD


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
