"""What goes into a bundle comes out of it, bit for bit."""

from __future__ import annotations

from pathlib import Path

from recorder.bundle import Bundle
from tests.bundles import small_bundle


def test_a_written_bundle_opens_and_is_intact(tmp_path: Path) -> None:
    """The builder's bundle passes every check of the strict reader."""
    with Bundle.open(small_bundle(tmp_path / "a.zst")) as bundle:
        assert bundle.verify() == []
        assert [frame.id for frame in bundle.manifest.frames] == [1, 2, 3, 4]


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    """No clock, no name, no user enters the file."""
    first = small_bundle(tmp_path / "a.zst").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    assert small_bundle(tmp_path / "elsewhere" / "b.zst").read_bytes() == first
