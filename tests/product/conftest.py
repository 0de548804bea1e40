"""The examples, run as a user runs them, in a directory of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the project importable, and nothing of the caller's numerics in the environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.fixture
def replay(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `replay` from a directory where nothing of the examples can be imported."""

    def call(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return run("-m", "replay", *arguments, cwd=tmp_path, **variables)

    return call


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the quickstart once; return its bundle and what it printed."""
    directory = tmp_path_factory.mktemp("quickstart")
    done = run(ROOT / "examples" / "quickstart.py", directory / "incidents", cwd=directory)
    assert done.returncode == 0, done.stderr
    [bundle] = (directory / "incidents").glob("*.zst")
    return bundle, done.stdout
