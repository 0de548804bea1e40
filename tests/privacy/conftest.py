"""Recorders, bundles and a tiny model, as the tests of the recorder have them; and a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.conftest import bundles, make_recorder, net

__all__ = ["bundles", "key_file", "make_recorder", "net"]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A privacy key."""
    path = tmp_path / "privacy.key"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    return path
