"""A bundle is read by range from anywhere, and only as far as needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recorder.bundle import Bundle, BundleInvalid, BundleUnavailable, BytesSource, FileSource, RangeSource
from tests.bundles import small_bundle


class Counting:
    """A source that counts what is asked of it, as a bucket would bill it."""

    def __init__(self, data: bytes) -> None:
        self._source = BytesSource(data)
        self.size_bytes = self._source.size_bytes
        self.reads: list[int] = []
        self.closed = False

    def read_at(self, offset: int, length: int) -> bytes:
        """Count and pass on."""
        assert 0 <= offset <= offset + length <= self.size_bytes
        self.reads.append(length)
        return self._source.read_at(offset, length)

    def close(self) -> None:
        """Remember it."""
        self.closed = True


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A bundle of a few megabytes."""
    return small_bundle(tmp_path_factory.mktemp("large") / "a.zst", frames=4, height=480, width=640).read_bytes()


def test_opening_reads_header_manifest_and_table_only(large: bytes) -> None:
    """Three requests; then one member costs one request of its own frames."""
    source = Counting(large)
    assert isinstance(source, RangeSource)
    with Bundle.open(source) as bundle:
        assert len(source.reads) <= 3
        assert sum(source.reads) < 140_000 < len(large) / 10
        source.reads.clear()
        thumbnail = bundle.manifest.frames[2].images[0].thumbnail
        assert thumbnail is not None
        bundle.read(thumbnail)
        assert len(source.reads) == 1
        assert source.reads[0] < 4096
    assert source.closed


def test_path_bytes_and_source_give_the_same(tmp_path: Path, large: bytes) -> None:
    """One reader over all of them."""
    path = tmp_path / "a.zst"
    path.write_bytes(large)
    opened = [Bundle.open(origin) for origin in (path, str(path), large, memoryview(large), Counting(large))]
    assert len({bundle.id for bundle in opened}) == 1
    expected = opened[0].pixels(opened[0].manifest.frames[0].images[0])
    for bundle in opened:
        image = bundle.manifest.frames[0].images[0]
        assert np.array_equal(bundle.pixels(image), expected)
        bundle.close()
        bundle.close()


def test_a_source_is_closed_when_opening_fails(large: bytes) -> None:
    """No descriptor leaks from a damaged bundle."""
    source = Counting(large[:-1])
    with pytest.raises(BundleInvalid):
        Bundle.open(source)
    assert source.closed


def test_what_is_not_there_is_unavailable_not_invalid(tmp_path: Path) -> None:
    """A missing path, a directory, a pipe nobody writes to."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing.zst", ".", "pipe"):
        with pytest.raises(BundleUnavailable, match=r"check the path|regular file"):
            Bundle.open(tmp_path / name)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path, large: bytes) -> None:
    """Short reads are never passed on."""
    path = tmp_path / "a.zst"
    path.write_bytes(large)
    with Bundle.open(path) as bundle:
        os.truncate(path, 1000)
        with pytest.raises(BundleInvalid, match="became shorter"):
            bundle.pixels(bundle.manifest.frames[0].images[0])


def test_a_closed_file_says_so(tmp_path: Path, large: bytes) -> None:
    """One sentence with the remedy."""
    path = tmp_path / "a.zst"
    path.write_bytes(large)
    source = FileSource(path)
    source.close()
    with pytest.raises(BundleUnavailable, match="open the bundle again"):
        source.read_at(0, 1)


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import recorder.bundle", "numpy"),
        ("from recorder.bundle import Bundle, BundleWriter", "PIL"),
        ("from recorder.bundle import Bundle, BundleWriter", "jsonschema"),
        ("from recorder.bundle import Bundle, BundleWriter", "torch"),
    ],
)
def test_importing_stays_light(statement: str, absent: str) -> None:
    """A host pays for nothing it does not use."""
    code = f"{statement}; import sys; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=240).returncode == 0
