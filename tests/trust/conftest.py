"""Keys made by openssl, as users make them."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay

__all__ = ["KeyPair", "Run", "make_key", "replay"]


@dataclass(frozen=True)
class KeyPair:
    """Two PEM files."""

    private: Path
    public: Path


def openssl(*arguments: object) -> bytes:
    """Run openssl, which must succeed."""
    command = ["openssl", *(str(argument) for argument in arguments)]
    return subprocess.run(command, check=True, capture_output=True, timeout=240).stdout


def make_key(directory: Path, name: str, *options: str) -> KeyPair:
    """As docs/custody.md says."""
    private, public = directory / f"{name}.private.pem", directory / f"{name}.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private, *options)
    secret = options[options.index("-pass") + 1 :][:1] if "-pass" in options else ()
    openssl("pkey", "-in", private, "-pubout", "-out", public, *(("-passin", *secret) if secret else ()))
    return KeyPair(private, public)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyPair, KeyPair]:
    """Two pairs."""
    directory = tmp_path_factory.mktemp("keys")
    return make_key(directory, "line-3"), make_key(directory, "other")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of four frames."""
    return small_bundle(tmp_path_factory.mktemp("bundle") / "incident.zst")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config directory of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FLIGHT_RECORDER_KEY_PASSWORD", raising=False)
    directory = tmp_path / "config" / "vision-flight-recorder"
    directory.mkdir(parents=True)
    return directory
