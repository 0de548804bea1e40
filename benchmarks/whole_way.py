"""The whole way of an incident: a service, a bucket, a ticket, and a desk on another machine.

Run it: ``python -m benchmarks.whole_way``. It starts an S3 server (SeaweedFS, of ``vision-flight-recorder[dev]``) and a
tracker that speaks GitLab's API, both on this machine, and leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from benchmarks.payload import scratch, use_examples
from tests.sinks.server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.ticket.server import TOKEN, GitLab

__all__ = ["Outcome", "main", "walk"]

ROOT = Path(__file__).resolve().parent.parent
BUCKET, SINK = "incidents", "s3://incidents/prod"
#: Longer than anything here takes on a loaded machine.
_PATIENCE_SECONDS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was seen on the way."""

    location: str  #: of the bundle
    object_sha256: str
    verdict: dict[str, Any]  #: of `replay run`, at the desk
    models: tuple[str, ...]  #: keys below models/ in the bucket
    claims: tuple[str, ...]  #: keys below .claims/
    by_itself: int  #: comments there before anybody called `replay ticket`
    comments: tuple[str, ...]  #: in the end
    attachments: tuple[tuple[str, str], ...]  #: each file that the tracker received: name, SHA-256


def serve() -> None:
    """Be the service: the quickstart's, whose lamp fails, with a bucket for a sink and a ticket for a pager."""
    use_examples()
    import mobilenet
    import quickstart
    import torch

    from recorder import FlightRecorder, triggers

    with FlightRecorder(
        sink=SINK,
        sink_options={"service": "line-3"},
        notify=f"ticket:{GitLab.address}",
        triggers=[triggers.low_confidence(below=0.6)],
        pre_frames=4,
        post_frames=2,
        overhead_budget=1,  # frames come without a pause
    ) as recorder:
        model = recorder.attach(mobilenet.load(), factory="mobilenet:factory")
        for number in range(quickstart.LAMP_FAILS_AT - 4, quickstart.LAMP_FAILS_AT + 4):
            image = quickstart.camera(number)
            with torch.inference_mode(), recorder.frame(image=image, camera="line-3", number=number) as frame:
                confidence, label = model(mobilenet.preprocess(image)).softmax(1).max(1)
                frame.output = {"label": int(label), "confidence": float(confidence)}
        if not recorder.flush(timeout=_PATIENCE_SECONDS):
            raise SystemExit(f"the bundle did not arrive: {recorder.stats()}")


def walk(directory: Path) -> Outcome:
    """Go the whole way, with everything below ``directory``."""
    server = S3Server(_made(directory / "s3"))
    with GitLab().running() as tracker:
        assert isinstance(tracker, GitLab)
        try:
            server.start()
            return _walk(directory, server, tracker)
        finally:
            server.kill()


def _walk(directory: Path, server: S3Server, tracker: GitLab) -> Outcome:
    # A shelf of its own for each machine: the desk has nothing of what the service kept.
    factory, desk = (_machine(directory / name, server, tracker) for name in ("factory", "desk"))
    client = boto3.session.Session().client(
        "s3", endpoint_url=server.url, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    subprocess.run([sys.executable, "-m", "benchmarks.whole_way", "serve"], env=factory, cwd=ROOT, check=True)
    _until(lambda: bool(tracker.texts()), "the incident filed itself")
    by_itself = len(tracker.texts())

    [incident] = _replay(desk, "ls", SINK, "--json")["incidents"]
    location = str(incident["path"])
    _until(lambda: len(_keys(client, "prod/models/")) >= 2, "weights and graph are in the bucket")
    verdict = _replay(desk, "run", location, "--json")
    _replay(desk, "ticket", location, "--to", tracker.address, "--once", SINK, "--json")
    key = location.removeprefix(f"s3://{BUCKET}/")
    content = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    outcome = Outcome(
        location=location,
        object_sha256=hashlib.sha256(content).hexdigest(),
        verdict=verdict,
        models=_keys(client, "prod/models/"),
        claims=_keys(client, "prod/.claims/"),
        by_itself=by_itself,
        comments=tuple(tracker.texts()),
        attachments=tuple((name, hashlib.sha256(data).hexdigest()) for name, data in tracker.files),
    )
    client.close()
    return outcome


def _machine(shelf: Path, server: S3Server, tracker: GitLab) -> dict[str, str]:
    """The environment of a process on a machine that has nothing of ours but its settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REPLAY_", "XDG_"))}
    return kept | {
        "AWS_ENDPOINT_URL": server.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(shelf / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(shelf / "none"), "GITLAB_TOKEN": TOKEN, "REPLAY_GITLAB_URL": tracker.url,
        "HOME": str(_made(shelf)), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1",
    }  # fmt: skip


def _replay(environment: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "replay", *arguments],
        env=environment, cwd=environment["HOME"], stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"replay {' '.join(arguments)} ended with {done.returncode}: {done.stdout.decode()}")
    return json.loads(done.stdout)


def _keys(client: Any, prefix: str) -> tuple[str, ...]:
    return tuple(each["Key"] for each in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ()))


def _until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise SystemExit(f"it did not happen that {what}")
        time.sleep(0.1)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def main() -> None:
    """Go the way and tell."""
    with scratch() as directory:
        outcome = walk(directory)
    print(f"sealed and brought to       {outcome.location}")
    print(f"                            sha256 {outcome.object_sha256}")
    print(f"models in the bucket        {', '.join(key.rpartition('/')[2][:24] + '…' for key in outcome.models)}")
    print(f"filed by itself             {outcome.by_itself} comment, claimed by {len(outcome.claims)} object")
    print(f"replayed from the bucket    {outcome.verdict['verdict']}: {outcome.verdict['conclusion']}")
    print(f"after `replay ticket`       {len(outcome.comments)} comment")
    for name, digest in outcome.attachments:
        picture = "the first bad image" if name.endswith(".jpg") else "not the object"
        told = "byte-identical to the object" if digest == outcome.object_sha256 else picture
        print(f"the tracker received        {name}: {told}")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
