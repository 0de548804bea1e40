"""What becomes of incidents, and of their host, while the way to the bucket is out of order.

Run it: ``python -m benchmarks.s3_faults``. It starts an S3 server (SeaweedFS) and a proxy that does the harm, serves
MobileNetV2 in a process of its own, and writes the table in docs/s3.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from benchmarks.payload import natural_frames, scratch, use_examples
from benchmarks.results import Table, quantile
from benchmarks.s3_reading import Moved, moved_by_show
from tests.sinks.proxy import FaultyProxy, Request
from tests.sinks.server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.waiting import sealers_of

__all__ = ["FAULTS", "main", "matrix"]

ROOT = Path(__file__).resolve().parent.parent
_PAGE = ROOT / "docs" / "s3.md"
_BEGIN = "<!-- written by `python -m benchmarks.s3_faults`, never by hand -->"
_END = "<!-- end of what is written -->"
_BUCKET = "faults"
_PATIENCE_SECONDS = 120
#: When a burst is over, the sealer has given back what it took.
_CALM_SECONDS = 15

#: What is done to the way, and what the proxy is told; None: it refuses connections; "": the server is killed.
#: The first says how far two runs without any fault lie from one another.
FAULTS: dict[str, str | None] = {
    "none": "none",
    "connections refused": None,
    "reset in the middle of the body": "reset",
    "the answer is lost": "lost-answer",
    "a bit is flipped (checksum)": "corrupt",
    "slow": "slow",
    "500 InternalError": "500 InternalError",
    "503 SlowDown": "503 SlowDown",
    "409 ConditionalRequestConflict": "409 ConditionalRequestConflict",
    "clock skew (403)": "403 RequestTimeTooSkewed",
    "expired credentials (400)": "400 ExpiredToken",
    "the policy denies (403)": "403 AccessDenied",
    "another region (301)": "301 PermanentRedirect",
    "server killed, then restarted": "",
}


class _Host:
    """The service, a process of its own: told how many frames to serve, it says how long each took."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.s3_faults", "--serve"],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, order: str) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """Be the service: each order "N" serves N frames with an incident among the first; "flush" waits for the bucket."""
    use_examples()
    import mobilenet
    import torch

    from recorder import FlightRecorder

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    pictures = list(natural_frames(8))
    given = mobilenet.preprocess(pictures[0])
    with (
        torch.inference_mode(),
        FlightRecorder(
            f"s3://{_BUCKET}/p",
            pre_frames=4,
            post_frames=2,
            overhead_budget=1,
            max_incidents_per_hour=1000,
            max_incidents_per_day=1000,
            sink_options={"retry_seconds": 0.1, "max_retry_seconds": 0.5},
        ) as recorder,
    ):
        model = recorder.attach(mobilenet.load(), store=False)
        for line in sys.stdin:
            told: Any
            if line.strip() == "flush":
                told = recorder.flush(_PATIENCE_SECONDS)
            else:
                told, incident = [], None
                for number in range(int(line)):
                    began = time.perf_counter_ns()
                    with recorder.frame(image=pictures[number % len(pictures)], camera="line-3"):
                        model(given)
                    told.append((time.perf_counter_ns() - began) / 1e6)
                    if number == 4:
                        incident = recorder.trigger("benchmark")
                told = [str(incident.wait(_PATIENCE_SECONDS).path) if incident else "", told]
            print(json.dumps(told), file=answers, flush=True)


def matrix(directory: Path, frames: int, rounds: int, faults: dict[str, str | None]) -> tuple[Table, float, Moved]:
    """Put each fault on the way and take it off, ``rounds`` times; an incident and ``frames`` frames each time.

    Returns:
        The table, what the sealer holds for itself alone after all of it, in MiB, and what `replay show` moves.
    """
    (directory / "s3").mkdir()
    server = S3Server(directory / "s3")
    rows = []
    try:
        server.start()
        with FaultyProxy(server.port) as proxy:
            host = _Host(_environment(directory, proxy.url))
            client = boto3.session.Session().client(
                "s3", endpoint_url=server.url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
                region_name="us-east-1",
            )  # fmt: skip
            try:
                client.create_bucket(Bucket=_BUCKET)
                host.ask("50")  # warm
                assert host.ask("flush") is True
                for name, told in faults.items():
                    rows.append(_row(name, told, frames, rounds, host, proxy, server, client))
                    print(" | ".join(rows[-1]), flush=True)
                time.sleep(_CALM_SECONDS)
                (sealer,) = sealers_of(directory)
                sealer_mib = _private_mib(sealer)
                moved = moved_by_show(directory, _BUCKET, client, proxy, _environment(directory, proxy.url))
                print(f"the sealer afterwards: {sealer_mib:.0f} MiB; {moved}", flush=True)
            finally:
                host.end()
                client.close()
    finally:
        server.kill()
    columns = ["fault", "sent", "arrived", "lost", "doubled", "requests harmed", "host p50, fault : none", "p99"]
    return Table(columns, rows), sealer_mib, moved


def _row(
    name: str, told: str | None, frames: int, rounds: int, host: _Host, proxy: FaultyProxy, server: S3Server, s3: Any
) -> list[str]:
    calm: list[float] = []
    hurt: list[float] = []
    sent: list[str] = []
    harmed = 0
    for _ in range(rounds):
        for latencies, fault in ((calm, False), (hurt, True)):
            with _harm(told, proxy, server) if fault else _nothing() as count:
                location, took = host.ask(str(frames))
                harmed += count() if fault else 0
            assert location.startswith("s3://"), location
            sent.append(location)
            latencies.extend(took)
            assert host.ask("flush") is True, f"{name}: not all arrived in time"
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=_BUCKET, Prefix="p/")
    # A bundle that came a second time would stand under a suffixed name.
    found = Counter(_incident(each["Key"]) for page in pages for each in page.get("Contents", ()))
    arrived = [found[_incident(location)] for location in sent]
    ratios = [f"{quantile(hurt, share) / quantile(calm, share):.2f} ×" for share in (50, 99)]
    lost, doubled = arrived.count(0), sum(max(0, times - 1) for times in arrived)
    harmed_text = str(harmed) if told else "all"  # nobody counts what is refused
    return [name, str(len(sent)), str(len(sent) - lost), str(lost), str(doubled), harmed_text, *ratios]


@contextmanager
def _nothing() -> Iterator[Any]:
    yield lambda: 0


@contextmanager
def _harm(told: str | None, proxy: FaultyProxy, server: S3Server) -> Iterator[Any]:
    """Do harm to every request while it lasts; gives a function that counts them."""
    harmed: list[Request] = []
    if told is None:
        proxy.refuse()
    elif told == "":
        server.kill()
    elif told != "none":
        proxy.fault = lambda request: (harmed.append(request), told)[1]
    try:
        yield lambda: len(harmed)
    finally:
        proxy.fault = lambda request: None
        if told is None:
            proxy.accept()
        elif told == "":
            server.start()


def _private_mib(process: int) -> float:
    """What a process holds that no other maps."""
    rolled = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rolled if line.startswith("Private_")) / 1024


def _incident(location: str) -> str:
    """The part of a name that is the incident's own, without a suffix of the sink."""
    return "-".join(location.rpartition("/")[2].removesuffix(".zst").split("-")[:2])


def _environment(directory: Path, url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "XDG_"))}
    return kept | {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(directory / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(directory / "none"), "HOME": str(directory), "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1",
    }  # fmt: skip


def main() -> None:
    """Measure, and write the table into the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3_faults", description=__doc__)
    parser.add_argument("--frames", type=int, default=150, help="frames served with the fault, and as many without")
    parser.add_argument("--rounds", type=int, default=3, help="how often the two alternate")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    with scratch() as directory:
        table, sealer_mib, moved = matrix(directory, options.frames, options.rounds, FAULTS)
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    busy = "; **the machine was busy with other work**, so single ratios say little" if load > cpus else ""
    text = (
        f"{options.rounds} rounds for each fault: an incident and {options.frames} frames of MobileNetV2 without it, "
        "then as many while it hits every request (slow: every one takes 0.3 s more); the server is SeaweedFS, on the "
        f"same {cpus} cores (load {load:.1f}{busy}). {_CALM_SECONDS} s after the last bundle had arrived, the sealer "
        f"held {sealer_mib:.0f} MiB of its own (goal: 48). `replay show` of a bundle of {moved.object_bytes / 1e6:.0f} "
        f"MB in the bucket moves **{moved.answered_bytes / 1e6:.2f} MB** in {moved.requests} requests (goal: below 1 "
        "MB).\n\n"
    )
    page = _PAGE.read_text()
    head, _, rest = page.partition(_BEGIN)
    _PAGE.write_text(f"{head}{_BEGIN}\n\n{text}{table.markdown()}\n\n{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    main()
