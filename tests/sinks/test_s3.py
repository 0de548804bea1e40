"""The sink that is a bucket, against a real server: what every sink does, and nothing lost or doubled by any fault."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder import FlightRecorder
from recorder.bundle import Bundle
from recorder.sinks import Sink, SinkUnavailable, open_sink
from recorder.sinks.s3 import upload
from recorder.sinks.s3.sink import S3Sink
from recorder.sinks.s3.source import S3Source
from tests.sinks.conformance import BUNDLE_HEAD, SinkConformance
from tests.sinks.proxy import FaultyProxy, Request
from tests.sinks.server import S3Server

#: Three parts.
IN_PARTS = 11 * 2**20
QUICK = {"retry_seconds": 0.02, "max_retry_seconds": 0.1}


@pytest.fixture
def sinks() -> Iterator[list[S3Sink]]:
    """Sinks to be closed in the end."""
    made: list[S3Sink] = []
    yield made
    for sink in made:
        sink.close()


class TestS3Sink(SinkConformance):
    """A bucket does what every sink does."""

    @pytest.fixture(autouse=True)
    def _bucket(self, s3: Any, bucket: str, sinks: list[S3Sink]) -> None:
        self.s3, self.bucket, self.sinks = s3, bucket, sinks

    def make(self, tmp_path: Path, **options: object) -> Sink:
        spool = str(tmp_path / "waiting")
        sink = S3Sink(f"s3://{self.bucket}/a/prefix", **QUICK, spool=spool, **options)
        self.sinks.append(sink)
        return sink

    def make_unreachable(self, tmp_path: Path) -> Sink:
        (tmp_path / "file").touch()
        sink = S3Sink("s3://bucket", spool=str(tmp_path / "file"), endpoint_url="http://127.0.0.1:9")
        self.sinks.append(sink)
        return sink

    def put(self, sink: Sink, local_file: Path, name: str) -> str:
        digest = hashlib.md5(local_file.read_bytes()).hexdigest()
        sink.publish(local_file, name)
        assert isinstance(sink, S3Sink) and sink.flush(120)
        found = self.s3.list_objects_v2(Bucket=self.bucket)["Contents"]
        (key,) = [each["Key"] for each in found if each["ETag"].strip('"') == digest]
        return f"s3://{self.bucket}/{key}"

    def read(self, sink: Sink, location: str) -> bytes:
        key = location.removeprefix(f"s3://{self.bucket}/")
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body


class Heap:
    """Bundles to be published, and what became of them."""

    def __init__(self, tmp_path: Path, s3: Any, bucket: str, sinks: list[S3Sink]) -> None:
        self.tmp_path, self.s3, self.bucket, self.sinks = tmp_path, s3, bucket, sinks
        self.faults: Counter[str] = Counter()
        self.sentences: list[str] = []
        self.arrived: list[str] = []
        self.sent: list[str] = []

    def sink(self, **options: Any) -> S3Sink:
        """A sink, started as the sealer does; close it and make another for a restart."""
        sink = S3Sink(f"s3://{self.bucket}/p", **{**QUICK, "spool": str(self.tmp_path / "waiting"), **options})
        self.sinks.append(sink)
        sink.start(self.arrived.append, self.fault)
        return sink

    def fault(self, reason: str, sentence: str) -> None:
        """Note what the host would be told."""
        self.faults[reason] += 1
        self.sentences.append(sentence)

    def publish(self, sink: S3Sink, size_bytes: int = 1000) -> str:
        """Publish one bundle of random bytes."""
        path = self.tmp_path / "new.zst"
        path.write_bytes(BUNDLE_HEAD + os.urandom(size_bytes))
        self.sent.append(hashlib.sha256(path.read_bytes()).hexdigest())
        return sink.publish(path, f"20260301T03000{len(self.sent)}.000000Z-{len(self.sent):012x}.zst")

    def there(self) -> list[str]:
        """The digests of all that is in the bucket."""
        found = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        keys = [each["Key"] for each in found]
        bodies = [self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys]
        return [hashlib.sha256(body).hexdigest() for body in bodies]

    def assert_nothing_lost_or_doubled(self, sink: S3Sink, *, orphans_are_faults: bool = True) -> None:
        """Each bundle once, the spool empty, no upload left open."""
        assert sink.flush(120), (self.faults, self.sentences[-1:])
        assert sorted(self.there()) == sorted(self.sent)
        if orphans_are_faults:
            assert not self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads")
        assert not list((self.tmp_path / "waiting").glob("*.zst")) and not list(
            (self.tmp_path / "waiting").glob("*.upload")
        )


@pytest.fixture
def heap(tmp_path: Path, s3: Any, bucket: str, sinks: list[S3Sink], monkeypatch: pytest.MonkeyPatch) -> Heap:
    """Bundles above 6 MiB go in parts of 5 MiB, the smallest that S3 takes."""
    monkeypatch.setattr(upload, "_SINGLE_BYTES", 6 * 2**20)
    monkeypatch.setattr(upload, "_PART_BYTES", 5 * 2**20)
    return Heap(tmp_path, s3, bucket, sinks)


@pytest.mark.parametrize(
    "told",
    [
        "reset",
        "lost-answer",
        "corrupt",
        pytest.param("slow", marks=pytest.mark.soak),
        pytest.param("500 InternalError", marks=pytest.mark.soak),
        "503 SlowDown",
        pytest.param("409 ConditionalRequestConflict", marks=pytest.mark.soak),
        pytest.param("403 RequestTimeTooSkewed", marks=pytest.mark.soak),
        "400 ExpiredToken",
        pytest.param("403 AccessDenied", marks=pytest.mark.soak),
        pytest.param("301 PermanentRedirect", marks=pytest.mark.soak),
    ],
)
def test_whatever_the_way_does_each_bundle_arrives_once(heap: Heap, proxy: FaultyProxy, told: str) -> None:
    """Small ones and ones in parts; every second request fails until ten have."""
    failed: list[Request] = []

    def fault(request: Request) -> str | None:
        if request.number % 2 or len(failed) >= 10:
            return None
        failed.append(request)
        return told

    proxy.forget()
    proxy.fault = fault
    sink = heap.sink()
    for size_bytes in (1000, IN_PARTS, 2000):
        heap.publish(sink, size_bytes)
    assert sink.flush(120), (heap.faults, heap.sentences[-1:])
    proxy.fault = lambda request: None
    # An upload whose id never reached us is for the bucket's lifecycle rule to end.
    heap.assert_nothing_lost_or_doubled(sink, orphans_are_faults=told != "lost-answer")
    assert len(set(heap.arrived)) == 3 and failed
    assert all("\n" not in sentence and len(sentence) < 300 for sentence in heap.sentences)
    assert set(heap.arrived) == {listing.location for listing in sink.bundles()}


def test_connections_refused_for_a_while(heap: Heap, proxy: FaultyProxy) -> None:
    """The bundle is safe in the spool, and the fault counted."""
    proxy.refuse()
    sink = heap.sink()
    heap.publish(sink)
    while not heap.faults:
        time.sleep(0.02)
    assert len(sink.waiting()) == 1 and "cannot be reached" in heap.sentences[0]
    proxy.accept()
    heap.assert_nothing_lost_or_doubled(sink)


def test_a_process_that_ends_is_followed_by_one_that_goes_on(heap: Heap, proxy: FaultyProxy) -> None:
    """Parts that are there are not sent again."""
    proxy.forget()
    proxy.fault = lambda request: "503 SlowDown" if "partNumber=3" in request.path else None
    sink = heap.sink(retry_seconds=30)
    heap.publish(sink, IN_PARTS)
    while not heap.faults:
        time.sleep(0.02)
    sink.close()
    (note,) = (heap.tmp_path / "waiting").glob("*.upload")
    assert b'"upload"' in note.read_bytes()
    proxy.fault = lambda request: None
    proxy.forget()
    heap.assert_nothing_lost_or_doubled(heap.sink())
    numbers = {int(found[1]) for each in proxy.requests if (found := re.search(r"partNumber=(\d+)", each.path))}
    assert numbers == {3}


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"upload":"none","key":"p/x","sha256":"y"}', b"\xff" * 9000])
def test_a_forged_note_costs_a_new_upload_at_most(heap: Heap, note: bytes) -> None:
    """A spool is untrusted input."""
    waiting = heap.tmp_path / "waiting"
    waiting.mkdir(mode=0o700)
    (waiting / ".20260301T030001.000000Z-000000000001.zst.upload").write_bytes(note)
    (waiting / ".20260301T030002.000000Z-gone.zst.upload").write_bytes(note)
    sink = heap.sink()
    heap.publish(sink, IN_PARTS)
    heap.assert_nothing_lost_or_doubled(sink)
    deadline = time.monotonic() + 120
    while list(waiting.glob(".*.upload")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not list(waiting.glob(".*.upload"))


def test_what_arrived_before_a_crash_is_not_brought_twice(heap: Heap) -> None:
    """The process died between the answer and removing the spooled file; told by the store's own checksum."""
    sink = heap.sink()
    for size_bytes in (1000, IN_PARTS):
        heap.publish(sink, size_bytes)
        spooled = Path(sink.waiting()[0])
        kept = spooled.with_name("kept")
        os.link(spooled, kept)
        assert sink.flush(120)
        kept.rename(spooled)
        heap.assert_nothing_lost_or_doubled(sink)


def test_a_key_that_others_hold_is_left_alone(heap: Heap, s3: Any) -> None:
    """Even when its metadata claims to be ours; the bundle gets another key, and both are counted."""
    sink = heap.sink()
    path = heap.tmp_path / "mine.zst"
    path.write_bytes(BUNDLE_HEAD)
    claim = hashlib.sha256(BUNDLE_HEAD).hexdigest()
    key = "p/2026-03-01/20260301T030000.000000Z-a.zst"
    s3.put_object(Bucket=heap.bucket, Key=key, Body=b"?" * len(BUNDLE_HEAD), Metadata={"sha256": claim})
    sink.publish(path, key.rpartition("/")[2])
    assert sink.flush(120)
    assert s3.get_object(Bucket=heap.bucket, Key=key)["Body"].read() == b"?" * len(BUNDLE_HEAD)
    assert heap.arrived == [f"s3://{heap.bucket}/{key.removesuffix('.zst')}-1.zst"]
    assert heap.faults["key-taken"] == 1


def test_objects_are_keyed_tagged_and_encrypted_as_asked(heap: Heap, s3: Any) -> None:
    """And carry their digest."""
    sink = heap.sink(service="line-3", tags={"team": "vision", "a b": "c&d"}, encryption="AES256")
    for size_bytes in (1000, IN_PARTS):
        location = heap.publish(sink, size_bytes)
        assert sink.flush(120)
        key = location.removeprefix(f"s3://{heap.bucket}/")
        assert key.startswith("p/line-3/2026-03-01/20260301T03000")
        head = s3.head_object(Bucket=heap.bucket, Key=key)
        assert head["Metadata"]["sha256"] == heap.sent[-1] and head["ServerSideEncryption"] == "AES256"
        assert "ContentEncoding" not in head
        tags = s3.get_object_tagging(Bucket=heap.bucket, Key=key)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "vision", "a b": "c&d"}


def test_encrypted_bundles_keep_their_suffix(heap: Heap) -> None:
    """…zst.age stays that in the bucket, and is listed."""
    sink = heap.sink()
    path = heap.tmp_path / "e"
    path.write_bytes(b"age-encryption.org/v1\n" + bytes(40))
    location = sink.publish(path, "20260301T030000.000000Z-a.zst.age")
    assert sink.flush(120) and location.endswith("/2026-03-01/20260301T030000.000000Z-a.zst.age")
    assert [listing.location for listing in sink.bundles()] == [location]


def test_models_go_to_the_store_once(heap: Heap, s3: Any, proxy: FaultyProxy) -> None:
    """By their digest, beside the bundles; the next process asks and sends nothing. A damaged one stays here."""
    content = os.urandom(300_000)
    name = f"{hashlib.sha256(content).hexdigest()}.safetensors"
    damaged = f"{'0' * 64}.onnx"
    for sends in (True, False):
        models = heap.tmp_path / "waiting" / "models"
        models.mkdir(parents=True, exist_ok=True)
        (models / name).write_bytes(content)
        (models / damaged).write_bytes(b"not that")
        (models / "notes.txt").write_bytes(b"nobody's business")
        proxy.forget()
        sink = heap.sink()
        assert sink.models_directory() == models
        heap.publish(sink)
        while sink.is_busy():
            time.sleep(0.02)
        sent = [request for request in proxy.requests if request.method == "PUT" and "/models/" in request.path]
        assert bool(sent) is sends
        assert s3.get_object(Bucket=heap.bucket, Key=f"p/models/{name}")["Body"].read() == content
        sink.close()
    keys = {each["Key"] for each in s3.list_objects_v2(Bucket=heap.bucket, Prefix="p/models/")["Contents"]}
    assert keys == {f"p/models/{name}"} and heap.faults["model-damaged"] == 2


def test_the_spool_keeps_within_its_bounds_and_says_so(heap: Heap, proxy: FaultyProxy) -> None:
    """A bucket that is away must not fill the disk; the oldest go first, and each is counted."""
    proxy.refuse()
    sink = heap.sink(max_spool_bytes=3500)
    for number in range(5):
        heap.publish(sink)
        then = time.time() - 100 + number
        os.utime(sink.waiting()[-1], (then, then))
        sink.sweep()
    assert len(sink.waiting()) == 3
    while heap.faults["spool-full"] < 2:  # one of them may be on its way in vain
        time.sleep(0.02)
    proxy.accept()
    heap.sent = heap.sent[2:]
    heap.assert_nothing_lost_or_doubled(sink)


def test_the_bandwidth_is_kept(heap: Heap) -> None:
    """200 kB at 400 kB/s cannot take less than about half a second."""
    sink = heap.sink(bytes_per_second=400_000)
    began = time.monotonic()
    heap.publish(sink, 200_000)
    heap.assert_nothing_lost_or_doubled(sink)
    assert time.monotonic() - began > 0.4


@pytest.mark.soak
def test_a_server_that_is_killed_and_comes_back(heap: Heap, s3_server: S3Server, proxy: FaultyProxy) -> None:
    """In the middle of an upload in parts."""

    def fault(request: Request) -> str | None:
        if "partNumber=3" in request.path:
            proxy.fault = lambda request: None
            s3_server.kill()
        return None

    proxy.fault = fault
    sink = heap.sink()
    heap.publish(sink, IN_PARTS)
    heap.publish(sink)
    while not heap.faults:
        time.sleep(0.02)
    assert len(sink.waiting()) == 2
    s3_server.start()
    heap.assert_nothing_lost_or_doubled(sink)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonsense": 1}, "no option 'nonsense'"),
        ({"max_spool_bytes": 0}, "max_spool_bytes must be positive"),
        ({"key": "{date}.zst"}, "must end in {incident}.zst"),
        ({"key": "{secret}/{incident}.zst"}, "may hold"),
        ({"key": "../{incident}.zst"}, "may hold"),
        ({"key": "{service}/{incident}.zst"}, "give the option service"),
        ({"service": "a b"}, "service="),
        ({"encryption": "rot13"}, "encryption="),
        ({"kms_key_id": "x"}, "needs encryption"),
        ({"tags": {"a": 1}}, "texts"),
        ({"tags": ["a"]}, "dictionary"),
        ({"tags": {str(number): "" for number in range(11)}}, "at most 10"),
        ({"bytes_per_second": -1}, "bytes_per_second must be positive"),
        ({"endpoint_url": 5}, "endpoint_url must be text"),
    ],
)
def test_options_that_make_no_sense_are_wrong_arguments(options: dict[str, Any], message: str) -> None:
    """At construction, before anything is imported or reached."""
    with pytest.raises(ValueError, match=message):
        open_sink("s3://bucket/prefix", **options)


def test_a_spool_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """In a shared directory a link could lead anywhere."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    sink = S3Sink("s3://bucket", spool=str(tmp_path / "link"))
    local = tmp_path / "a"
    local.write_bytes(BUNDLE_HEAD)
    with pytest.raises(SinkUnavailable, match="not a directory of this user's own"):
        sink.publish(local, "a.zst")
    assert local.exists()


def test_claims_have_one_winner(heap: Heap, proxy: FaultyProxy) -> None:
    """Also when the answer to the winner is lost on its way."""
    first, second = heap.sink().claims(), heap.sink().claims()
    assert first.read("a-1") is None and first.names("a") == []
    lost = iter(["lost-answer"])
    proxy.fault = lambda request: next(lost, None)
    assert first.take("a-1", b"mine") and not second.take("a-1", b"yours")
    assert second.read("a-1") == b"mine" and second.take("a-2", b"") and second.names("a") == ["a-1", "a-2"]
    first.drop("a-1")
    first.drop("a-1")
    assert second.take("a-1", b"yours") and not list(heap.sink().bundles())
    with pytest.raises(ValueError):
        first.take("../a", b"")


def test_a_recorder_with_a_bucket(heap: Heap, s3: Any, tmp_path: Path) -> None:
    """From a frame to the object: sealed is safe in the spool, flushed is in the bucket."""
    options = {"spool": str(tmp_path / "waiting"), "service": "demo"}
    with FlightRecorder(f"s3://{heap.bucket}/p", post_frames=0, sink_options=options) as recorder:
        with recorder.frame(camera="line-3"):
            pass
        incident = recorder.trigger("look").wait(120)
        assert incident.state == "sealed" and recorder.flush(120)
        location = str(incident.path)
        assert location.startswith(f"s3://{heap.bucket}/p/demo/")
        with Bundle.open(S3Source(location)) as opened:
            assert opened.manifest.incident.stream == "line-3"
        assert not recorder.stats().errors


def test_a_recorder_whose_bucket_is_away(heap: Heap, proxy: FaultyProxy, tmp_path: Path) -> None:
    """The host records on, the incident is safe in the spool, and the counters say why it is not in the bucket."""
    proxy.refuse()
    waiting = tmp_path / "waiting"
    with FlightRecorder(
        f"s3://{heap.bucket}/p", post_frames=0, sink_options={**QUICK, "spool": str(waiting)}
    ) as recorder:
        with recorder.frame(camera="line-3"):
            pass
        assert recorder.trigger("look").wait(120).state == "sealed"
        assert not recorder.flush(0.2) and len(list(waiting.glob("*.zst"))) == 1
        while not any(reason.startswith("upload: ") for reason in recorder.stats().errors):
            time.sleep(0.05)
        proxy.accept()
        assert recorder.flush(120)
    assert len(heap.there()) == 1
