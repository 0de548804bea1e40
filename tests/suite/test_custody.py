"""Encrypted and signed incidents in a suite."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run, replay
from tests.suite.conftest import MODELS
from tests.trust.test_encryption import make_identity

__all__ = ["replay"]  # a fixture

CANDIDATE = ("--model", f"{MODELS}:scores")


@pytest.fixture
def kept(recorded: Path, tmp_path: Path, replay: Run) -> Path:
    """A sink with one encrypted and one signed incident; ``key.txt`` opens the one, ``key.pem`` signed the other."""
    recipient = make_identity(tmp_path / "key.txt")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "key.pem"], check=True)
    sink = tmp_path / "sink"
    sink.mkdir()
    assert replay("encrypt", recorded, "--to", recipient, "-o", sink / "a.zst.age").code == 0
    assert replay("sign", recorded, "--key", tmp_path / "key.pem", "-o", sink / "b.zst").code == 0
    return sink


def test_an_encrypted_incident_becomes_a_case_for_who_may_read_it(kept: Path, tmp_path: Path, replay: Run) -> None:
    """And it is said that the case is no longer encrypted."""
    words = ["suite", "add", kept / "a.zst.age", "--to", tmp_path / "suite", "--name", "a", "--expect", "class=2"]
    refused = replay(*words, "--whole")
    assert refused.code == 3 and "--identity" in refused.err and not (tmp_path / "suite").exists()
    added = replay(*words, "--whole", "--identity", tmp_path / "key.txt")
    assert added.code == 0 and "is encrypted" in added.err and (tmp_path / "suite" / "a.zst").exists()
    added = replay("suite", "add", kept / "b.zst", "--to", tmp_path / "suite", "--expect", "class=2", "--whole")
    assert added.code == 0 and "encrypted" not in added.err
    done = replay("suite", "run", tmp_path / "suite", *CANDIDATE, "--json")
    assert done.code == 0 and [case["status"] for case in done.json()["cases"]] == ["pass", "pass"], done.out
