"""Who asks to be forgotten is, in a bucket too: objects, their older versions, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle
from recorder.sinks.s3.source import S3Source
from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay
from tests.sinks.proxy import FaultyProxy

__all__ = ["replay"]  # a fixture


def put(s3: Any, bucket: str, key: str, path: Path) -> None:
    s3.put_object(
        Bucket=bucket,
        Key=key,
        Body=path.read_bytes(),
        Metadata={"sha256": "old", "site": "north"},
        Tagging="team=vision",
    )


def keys(s3: Any, bucket: str) -> list[str]:
    return sorted(each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", ()))


def test_frames_go_from_a_bucket_and_what_else_stands_there_stays(
    s3: Any, bucket: str, tmp_path: Path, replay: Run
) -> None:
    path = small_bundle(tmp_path / "a.zst")
    put(s3, bucket, "p/day/a.zst", path)
    put(s3, bucket, "other/a.zst", path)
    s3.put_object(Bucket=bucket, Key="p/models/x.onnx", Body=b"a model")
    told = replay("erase", f"s3://{bucket}/p", "--where", "trace_id=t-1", "--json")
    assert told.code == 0 and told.json()["done"] is False
    [found] = told.json()["bundles"]
    assert found["path"] == f"s3://{bucket}/p/day/a.zst" and found["action"] == "rewrite" and found["frames"] == [2]
    done = replay("erase", f"s3://{bucket}/p", "--where", "trace_id=t-1", "--yes")
    assert done.code == 0, done.err
    with Bundle.open(S3Source(f"s3://{bucket}/p/day/a.zst")) as bundle:
        assert [frame.id for frame in bundle.manifest.frames] == [1, 3, 4] and bundle.verify() == []
    head = s3.head_object(Bucket=bucket, Key="p/day/a.zst")
    assert head["Metadata"]["site"] == "north" and len(head["Metadata"]["sha256"]) == 64
    assert s3.get_object_tagging(Bucket=bucket, Key="p/day/a.zst")["TagSet"] == [{"Key": "team", "Value": "vision"}]
    assert keys(s3, bucket) == ["other/a.zst", "p/day/a.zst", "p/models/x.onnx"]
    assert replay("erase", f"s3://{bucket}/p", "--where", "camera=line-3", "--yes").code == 0
    assert keys(s3, bucket) == ["other/a.zst", "p/models/x.onnx"]


def test_older_versions_go_with_the_object(s3: Any, bucket: str, tmp_path: Path, replay: Run) -> None:
    """A bucket that keeps versions would else give back what was erased."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    path = small_bundle(tmp_path / "a.zst")
    for key in ("some.zst", "all.zst"):
        put(s3, bucket, key, path)
        put(s3, bucket, key, path)
    assert replay("erase", f"s3://{bucket}", "--where", "trace_id=t-0", "--yes").code == 0
    listed = s3.list_object_versions(Bucket=bucket)
    assert [each["IsLatest"] for each in listed["Versions"]] == [True, True]
    assert replay("erase", f"s3://{bucket}", "--where", "camera=line-3", "--whole", "--yes").code == 0
    left = s3.list_object_versions(Bucket=bucket)
    assert not left.get("Versions") and not left.get("DeleteMarkers")


def test_an_object_that_changes_meanwhile_is_left_and_named(
    s3: Any, bucket: str, tmp_path: Path, replay: Run, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is replaced is the version that was read, and no other."""
    from replay.erasure import objects

    put(s3, bucket, "a.zst", small_bundle(tmp_path / "a.zst"))
    later = small_bundle(tmp_path / "b.zst", seed=1)
    describe = objects._kept

    def race(client: Any, place: Any, head: Any) -> Any:
        put(s3, bucket, "a.zst", later)
        return describe(client, place, head)

    monkeypatch.setattr(objects, "_kept", race)
    done = replay("erase", f"s3://{bucket}", "--where", "trace_id=t-1", "--yes", "--json")
    [found] = done.json()["bundles"]
    assert done.code == 1 and "replaced while it was read" in found["problem"]
    assert s3.get_object(Bucket=bucket, Key="a.zst")["Body"].read() == later.read_bytes()


def test_what_cannot_be_read_or_reached_is_said_in_one_sentence(
    s3: Any, bucket: str, tmp_path: Path, replay: Run
) -> None:
    s3.put_object(Bucket=bucket, Key="broken.zst", Body=b"no bundle")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="late.zst")["UploadId"]
    told = replay("erase", f"s3://{bucket}", "--where", "a=1", "--json")
    s3.abort_multipart_upload(Bucket=bucket, Key="late.zst", UploadId=upload)
    assert told.code == 1
    assert [each["path"].rpartition("/")[2] for each in told.json()["unreadable"]] == ["late.zst", "broken.zst"]
    for place in (f"s3://{bucket}-that-is-not-there", "s3://x", "http://elsewhere"):
        ended = replay("erase", place, "--where", "a=1")
        assert ended.code == 2 and ended.err.startswith("replay: ") and len(ended.err.strip().splitlines()) == 1
