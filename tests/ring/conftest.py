"""Rings for tests: small, in memory, gone afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ring.rings import MEMORY


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty directory on tmpfs where there is one."""
    path = Path(tempfile.mkdtemp(prefix="ring-test-", dir=MEMORY))
    yield path
    shutil.rmtree(path)
