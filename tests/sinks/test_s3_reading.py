"""Bundles and models out of a bucket: by ranges, of one version, and one sentence for whatever is wrong."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from recorder.bundle import Bundle, BundleUnavailable
from recorder.sinks.s3.address import S3Address
from recorder.sinks.s3.client import sentence_of
from recorder.sinks.s3.source import S3Source, reading_client
from replay.load import ConfigInvalid, ModelMissing, UserConfig, find_locations
from replay.model_upload import bring_models
from replay.remote_models import RemoteModels, RemoteUnavailable
from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay
from tests.sinks.proxy import FaultyProxy
from tests.sinks.server import READER_KEY

__all__ = ["replay"]  # a fixture

KEY = "p/line-3/2026-03-01/20260301T030000.000000Z-a.zst"


@pytest.fixture
def location(s3: Any, bucket: str, tmp_path: Path) -> str:
    """A small bundle in the bucket."""
    s3.put_object(Bucket=bucket, Key=KEY, Body=small_bundle(tmp_path / "a.zst").read_bytes())
    return f"s3://{bucket}/{KEY}"


def assert_one_sentence(text: str) -> None:
    """Not a traceback, and says something."""
    assert text.startswith("replay: ") and len(text.strip().splitlines()) == 1 and "Traceback" not in text


def test_bundles_are_listed_and_shown_by_address(location: str, bucket: str, replay: Run, s3: Any) -> None:
    """As from a directory; what is no bundle is named, models are no incidents, old objects are not looked into."""
    s3.put_object(Bucket=bucket, Key="p/broken.zst", Body=b"no bundle")
    s3.put_object(Bucket=bucket, Key="p/models/abc.onnx", Body=b"a model")
    listed = replay("ls", f"s3://{bucket}/p", "--json")
    assert listed.code == 0
    assert [each["path"] for each in listed.json()["incidents"]] == [location]
    assert [each["path"] for each in listed.json()["unreadable"]] == [f"s3://{bucket}/p/broken.zst"]
    assert replay("ls", f"s3://{bucket}/p", "--since", "2100-01-01", "--json").json()["incidents"] == []
    shown = replay("show", location, "--json")
    assert shown.code == 0 and len(shown.json()["frames"]) == 4
    assert replay("verify", location).code == 0


def test_incidents_of_a_bucket_are_exported(location: str, tmp_path: Path, replay: Run) -> None:
    """Also together with one that lies here; the result of a replay is looked for where the command runs."""
    here = small_bundle(tmp_path / "here.zst", seed=3)
    done = replay("export", location, here, "--to", "parquet", "-o", tmp_path / "tables", "--json")
    assert done.code == 0 and done.json()["frames"] == 8
    done = replay("export", location, here, "--to", "imagefolder", "-o", tmp_path / "set", "--json")
    assert done.code == 0 and done.json()["images"] == 8 and len(list((tmp_path / "set").rglob("*.png"))) == 8
    missing = replay("export", f"{location}-not", "--to", "coco", "-o", tmp_path / "none")
    assert missing.code == 2 and not (tmp_path / "none").exists()
    assert_one_sentence(missing.err)


@pytest.mark.soak
def test_show_of_200_mb_moves_less_than_one(
    s3: Any, bucket: str, proxy: FaultyProxy, tmp_path: Path, replay: Run
) -> None:
    """Counted on the wire."""
    path = small_bundle(tmp_path / "large.zst", frames=72, height=960, width=1280)
    assert path.stat().st_size > 200e6
    with path.open("rb") as file:
        s3.upload_fileobj(file, bucket, "large.zst")
    path.unlink()
    proxy.forget()
    shown = replay("show", f"s3://{bucket}/large.zst")
    assert shown.code == 0, shown.err
    assert proxy.answered_bytes < 1_000_000 and len(proxy.requests) < 40


def test_ranges_are_those_of_the_object(s3: Any, bucket: str, s3_bytes: bytes) -> None:
    """In any order and length, also where reading ahead comes in."""
    source = S3Source(f"s3://{bucket}/bytes")
    assert source.size_bytes == len(s3_bytes)
    random = np.random.default_rng(0)
    for _ in range(40):
        offset = int(random.integers(0, len(s3_bytes)))
        length = int(random.integers(0, min(300_000, len(s3_bytes) - offset) + 1))
        assert source.read_at(offset, length) == s3_bytes[offset : offset + length]
    ranges = range(0, len(s3_bytes), 70_000)
    assert b"".join(source.read_at(at, min(70_000, len(s3_bytes) - at)) for at in ranges) == s3_bytes


@pytest.fixture
def s3_bytes(s3: Any, bucket: str) -> bytes:
    """An object of two megabytes."""
    content = os.urandom(2_000_001)
    s3.put_object(Bucket=bucket, Key="bytes", Body=content)
    return content


def test_an_answer_that_breaks_off_is_asked_for_again(
    s3: Any, bucket: str, s3_bytes: bytes, proxy: FaultyProxy
) -> None:
    """And given up after three times."""
    source = S3Source(f"s3://{bucket}/bytes")
    cuts = iter(["cut", "cut"])
    proxy.fault = lambda request: next(cuts, None)
    assert source.read_at(0, 100_000) == s3_bytes[:100_000]
    proxy.fault = lambda request: "cut"
    with pytest.raises(BundleUnavailable):
        source.read_at(500_000, 100_000)


@pytest.mark.parametrize(("change", "sentence"), [("replaced", "was replaced"), ("removed", "was removed")])
def test_an_object_that_changes_while_it_is_read(
    s3: Any, bucket: str, tmp_path: Path, location: str, change: str, sentence: str
) -> None:
    """Never half of one version and half of another."""
    source = S3Source(location)
    if change == "replaced":
        s3.put_object(Bucket=bucket, Key=KEY, Body=small_bundle(tmp_path / "b.zst", seed=1).read_bytes())
    else:
        s3.delete_object(Bucket=bucket, Key=KEY)
    with pytest.raises(BundleUnavailable, match=sentence):
        Bundle.open(source)


@pytest.mark.parametrize(
    ("variables", "told", "sentence"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, None, "no AWS credentials"),
        ({"AWS_ACCESS_KEY_ID": READER_KEY}, None, "denied"),  # with the wrong secret
        ({"AWS_PROFILE": "nobody"}, None, "AWS_PROFILE"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, None, "cannot be reached"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, None, "no valid name"),
        ({}, "400 ExpiredToken", "expired"),
        ({}, "301 PermanentRedirect", "another region"),
        ({}, "503 SlowDown", "overloaded"),
        ({}, "404 NoSuchBucket", "no such"),
    ],
)
@pytest.mark.parametrize("command", ["ls", "show"])
def test_what_is_wrong_with_a_bucket_is_one_sentence(
    location: str,
    proxy: FaultyProxy,
    replay: Run,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    variables: dict[str, str],
    told: str | None,
    sentence: str,
) -> None:
    """Exit code 2: a place that is not there or cannot be reached. HEAD answers have no code, so some say less."""
    for name, value in variables.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    reading_client.cache_clear()
    proxy.fault = lambda request: told
    ended = replay(command, location)
    assert ended.code == 2
    assert_one_sentence(ended.err)
    head_says = command == "show" and (told is not None or "ACCESS_KEY_ID" in str(variables))
    if told == "301 PermanentRedirect":  # the client asks once where the bucket is
        assert len(proxy.requests) <= 4
    assert sentence in ended.err or (head_says and "; " in ended.err) or "known" in ended.err


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}}, "set AWS_REGION=eu-west-1"),
        ({"Error": {"Code": "AuthorizationHeaderMalformed", "Region": "us-gov-east-1"}}, "AWS_REGION=us-gov-east-1"),
        ({"ResponseMetadata": {"HTTPHeaders": {"x-amz-bucket-region": "x; rm"}}}, "set AWS_REGION to the bucket's"),
        ({}, "set AWS_REGION to the bucket's"),
    ],
)
def test_the_region_that_an_answer_names_is_told(said: dict[str, Any], sentence: str) -> None:
    """Only where it is a region's name: a store says what it likes."""
    error = ClientError({"Error": {"Code": "PermanentRedirect"}, **said}, "GetObject")
    assert sentence_of(error, "s3://b/k").endswith(sentence)


@pytest.mark.parametrize(
    "address",
    ["s3://", "s3://b", "s3://bucket", "s3://bucket/missing.zst", "s3://buc\x1bket/x", "s3://bucket/a\x1b[2J"],
)
def test_addresses_that_lead_nowhere(s3: Any, replay: Run, address: str) -> None:
    """One sentence without control characters."""
    ended = replay("show", address)
    assert ended.code == 2 and "\x1b" not in ended.err
    assert_one_sentence(ended.err)


def test_models_are_found_beside_a_bundle_and_kept_by_digest(
    s3: Any, bucket: str, proxy: FaultyProxy, location: str, tmp_path: Path
) -> None:
    """Under any shorter prefix; once fetched, nothing is asked for."""
    content = os.urandom(100_000)
    digest = hashlib.sha256(content).hexdigest()
    s3.put_object(Bucket=bucket, Key=f"p/models/{digest}.safetensors", Body=content)
    for models in (None, f"s3://{bucket}/p/models"):
        found = find_locations(S3Address.parse(location), models, UserConfig(), {}).weights(digest)
        assert found.read_bytes() == content and found.is_relative_to(tmp_path / "cache")
    proxy.forget()
    find_locations(None, f"s3://{bucket}/p/models", UserConfig(), {}).weights(digest)
    assert proxy.requests == []
    with pytest.raises(ModelMissing, match="not in"):
        find_locations(S3Address.parse(location), None, UserConfig(), {}).onnx(digest)


def test_a_model_is_brought_to_the_bucket_at_deployment(s3: Any, bucket: str, tmp_path: Path) -> None:
    """Once; found again by its digest, and nothing else that stands there is touched."""
    content = os.urandom(10_000)
    name = f"{hashlib.sha256(content).hexdigest()}.safetensors"
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / name).write_bytes(content)
    prefix = S3Address.parse(f"s3://{bucket}/p/models")
    for _ in range(2):
        assert bring_models(tmp_path / "store", prefix) == (f"s3://{bucket}/p/models/{name}",)
    assert RemoteModels(prefix).file(name).read_bytes() == content
    s3.put_object(Bucket=bucket, Key=f"other/{name}", Body=b"x")
    with pytest.raises(BundleUnavailable, match="something else"):
        bring_models(tmp_path / "store", S3Address.parse(f"s3://{bucket}/other"))


def test_a_model_that_is_not_what_its_name_says_is_not_kept(s3: Any, bucket: str, tmp_path: Path) -> None:
    """A bucket has other writers."""
    digest = "ab" * 32
    s3.put_object(Bucket=bucket, Key=f"models/{digest}.onnx", Body=b"something else")
    store = RemoteModels(S3Address.parse(f"s3://{bucket}/models"))
    with pytest.raises(RemoteUnavailable, match="not what its name says"):
        store.file(f"{digest}.onnx")
    with pytest.raises(RemoteUnavailable, match="more than the 5 that are fetched"):
        store.file(f"{digest}.onnx", 5)
    assert not list((tmp_path / "cache").rglob("*.onnx")) and not list((tmp_path / "cache").rglob(".tmp-*"))
    with pytest.raises(ConfigInvalid, match="no address in S3"):
        find_locations(None, "s3://x", UserConfig(), {})
