"""What the commands of a page find: incidents, a store, a suite, keys, servers. One recording serves all pages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner

from recorder.bundle import Bundle
from replay.cli import cli
from tests.docs.blocks import ROOT
from tests.docs.shell import Scratch
from tests.sinks.server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.ticket import server as trackers

NAME = "20260301T030000.250000Z-0123456789ab.zst"  # as the pages write it
_SERVICE = Path(__file__).with_name("service.py")


def record(directory: Path) -> Path:
    """Run the service once; return its directory, with models and a bundle of frames 1 to 12 in `incidents/`."""
    shutil.copy(_SERVICE, directory / "service.py")
    command = [sys.executable, "service.py"]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(directory)}
    (directory / "rings").mkdir(mode=0o700)
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    [bundle] = (directory / "incidents").glob("*.zst")
    bundle.rename(bundle.with_name(NAME))
    return directory


def incident(scratch: Scratch) -> Path:
    """The bundle among the incidents."""
    return scratch.directory / "incidents" / NAME


@contextmanager
def plain(scratch: Scratch) -> Iterator[None]:
    """Nothing but the recording."""
    yield


@contextmanager
def catalog(scratch: Scratch) -> Iterator[None]:
    """A bucket with the incidents, and another of the same defect that is on this machine only."""
    found = incident(scratch)
    with Bundle.open(found) as bundle:
        scratch.stands_for["7ed6592b"] = bundle.id[:8]
    (scratch.directory / "s3").mkdir()
    server = S3Server(scratch.directory / "s3")
    try:
        server.start()
        for name, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            scratch.monkeypatch.setenv(name, value)
        from recorder.sinks.s3.client import connect

        client = connect()
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key=f"incidents/{NAME}", Body=found.read_bytes())
        client.close()
        redact_bundle = ["redact", str(found), "-o", "incidents/new.zst", "--drop", "metadata.operator"]
        assert CliRunner().invoke(cli, redact_bundle).exit_code == 0
        found.unlink()
        yield
    finally:
        server.kill()


@contextmanager
def commands(scratch: Scratch) -> Iterator[None]:
    """What the examples of the reference name."""
    here, found = scratch.directory, incident(scratch)
    for name in ("yesterday.zst", "today.zst"):
        shutil.copy(found, here / name)
    with trackers.Jira().running() as tracker:
        _at(scratch, tracker, "JIRA")
        scratch.stands_for["jira:LINE-12"] = tracker.address
        yield


@contextmanager
def custody(scratch: Scratch) -> Iterator[None]:
    """An age identity, which `age-keygen` would make."""
    import pyrage

    shutil.copy(incident(scratch), scratch.directory / "bundle.zst")
    identity = pyrage.x25519.Identity.generate()
    program = scratch.directory / "bin" / "age-keygen"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\numask 077; echo {identity} > "$2"\n')
    program.chmod(0o700)
    scratch.stands_for["age1…"] = str(identity.to_public())
    yield


@contextmanager
def leftover(scratch: Scratch) -> Iterator[None]:
    """The ring of a service that was killed."""
    here = scratch.directory
    scratch.stands_for |= {"/rings": str(here / "left"), "/incidents": str(here / "sealed")}
    yield


@contextmanager
def tickets(scratch: Scratch) -> Iterator[None]:
    """A GitLab on this machine."""
    with trackers.GitLab().running() as tracker:
        _at(scratch, tracker, "GITLAB")
        yield


def _at(scratch: Scratch, tracker: trackers.Tracker, name: str) -> None:
    scratch.monkeypatch.setenv(f"REPLAY_{name}_URL", tracker.url + tracker.base)
    for token in ("GITLAB_TOKEN", "JIRA_EMAIL", "JIRA_API_TOKEN"):
        scratch.monkeypatch.setenv(token, "me@acme" if token == "JIRA_EMAIL" else trackers.TOKEN)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        scratch.monkeypatch.delenv(proxy, raising=False)


#: What each page needs beyond the recording.
PREPARED: dict[str, Callable[[Scratch], object]] = {
    "docs/catalog.md": catalog,
    "docs/cli.md": commands,
    "docs/custody.md": custody,
    "docs/survival.md": leftover,
    "docs/tickets.md": tickets,
}
