"""A bucket's uploads in a process of their own: the sealer stays small, and nothing is lost with that process."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from recorder.sinks import SinkUnavailable
from recorder.sinks.s3.apart import ApartS3Sink
from recorder.sinks.s3.sink import S3Sink
from tests.sinks.proxy import FaultyProxy, Request
from tests.waiting import wait_for

QUICK = {"retry_seconds": 0.02, "max_retry_seconds": 0.1}


class Sealer:
    """What the sealer does with a sink."""

    def __init__(self, tmp_path: Path, bucket: str) -> None:
        self.spool, self.bundle = tmp_path / "spool", tmp_path / "bundle"
        made = S3Sink(f"s3://{bucket}/prod", spool=str(self.spool), **QUICK).apart()
        assert isinstance(made, ApartS3Sink)
        self.sink = made
        self.arrived: list[str] = []
        self.faults: Counter[str] = Counter()
        self.sink.start(self.arrived.append, lambda reason, sentence: self.faults.update([reason]))

    def publish(self, number: int) -> str:
        self.bundle.write_bytes(os.urandom(1000))
        return self.sink.publish(self.bundle, f"20260101T00000{number}Z-{number}.zst")


@pytest.fixture
def sealer(tmp_path: Path, s3: Any, bucket: str) -> Iterator[Sealer]:
    """A sink whose child is gone in the end."""
    made = Sealer(tmp_path, bucket)
    yield made
    made.sink.close()
    assert not children()


def children() -> list[int]:
    """Children of this process that upload."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread or a child that ends meanwhile
            for child in (task / "children").read_text().split():
                if b"recorder.sinks.s3.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found


def test_bundles_and_models_arrive_and_the_process_ends_when_nothing_waits(
    sealer: Sealer, s3: Any, bucket: str
) -> None:
    (sealer.spool / "models").mkdir(parents=True)
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    (sealer.spool / "models" / f"{digest}.safetensors").write_bytes(content)
    locations = [sealer.publish(number) for number in range(3)]
    sealer.sink.sweep()
    wait_for(lambda: len(sealer.arrived) == 3 and not sealer.sink.is_busy())
    assert sealer.arrived == locations and not sealer.faults and not sealer.sink.waiting()
    keys = {each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert keys == {location.removeprefix(f"s3://{bucket}/") for location in locations} | {
        f"prod/models/{digest}.safetensors"
    }
    wait_for(lambda: not children())
    assert not sealer.sink.is_busy()


def test_a_process_that_is_killed_is_followed_by_another(sealer: Sealer, proxy: FaultyProxy) -> None:
    held = [True]

    def kill(request: Request) -> str | None:
        if request.method == "PUT" and held[0]:
            held[0] = False
            for child in children():
                os.kill(child, signal.SIGKILL)
        return None

    proxy.fault = kill
    location = sealer.publish(1)
    wait_for(lambda: not sealer.sink.waiting())
    assert set(sealer.arrived) == {location} and sealer.faults == {"upload: process ended": 1}
    assert not held[0]


def test_what_waits_is_brought_by_the_next_sealer(tmp_path: Path, s3: Any, bucket: str, proxy: FaultyProxy) -> None:
    first = Sealer(tmp_path, bucket)
    proxy.refuse()
    first.publish(1)
    wait_for(lambda: bool(first.faults))
    first.sink.close()
    assert len(first.sink.waiting()) == 1 and not children()
    proxy.accept()
    second = Sealer(tmp_path, bucket)
    wait_for(lambda: not second.sink.waiting())
    second.sink.close()
    assert len(second.arrived) == 1 and second.sink.find("20260101T000001Z-1.zst") == second.arrived[0]


def test_the_sealer_itself_never_loads_boto3(tmp_path: Path, s3: Any, bucket: str) -> None:
    code = """if True:
        import sys, time
        from pathlib import Path
        from recorder.sinks import open_sink
        sink = open_sink(sys.argv[1], spool=sys.argv[2]).apart()
        sink.start(print, print)
        Path(sys.argv[3]).write_bytes(b"bundle")
        sink.publish(Path(sys.argv[3]), "20260101T000000Z-1.zst")
        while sink.waiting(): time.sleep(0.05)
        print(sink.find("20260101T000000Z-1.zst"), sink.find("20260101T000000Z-2.zst"))
        sink.close()
        assert not {"boto3", "botocore"} & set(sys.modules)
    """
    given = [f"s3://{bucket}", str(tmp_path / "spool"), str(tmp_path / "bundle")]
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, timeout=120)
    location = f"s3://{bucket}/2026-01-01/20260101T000000Z-1.zst"
    assert done.returncode == 0 and done.stdout.split() == [location, location, "None"], done


def test_a_bucket_that_cannot_be_asked_is_one_sentence(sealer: Sealer, proxy: FaultyProxy) -> None:
    """The sealer then publishes: what is there already is not overwritten."""
    proxy.fault = lambda request: "403"
    with pytest.raises(SinkUnavailable, match="access is denied"):
        sealer.sink.find("20260101T000001Z-1.zst")
