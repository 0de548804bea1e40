"""A gigabyte is shown for less than a megabyte of reads, and read within the memory of its largest member."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from recorder.bundle import Bundle, BundleWriter, FileSource, archive, codec, strictjson, ustar
from recorder.bundle.zframe import FrameCompressor
from replay.cli import cli
from tests.bundles import small_bundle, store_array

FRAMES, IMAGE_BYTES = 400, 2_700_000


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of everything that is read of files from now on."""
    lengths: list[int] = []
    read_at = FileSource.read_at

    def counting(source: FileSource, offset: int, length: int) -> bytes:
        lengths.append(length)
        return read_at(source, offset, length)

    monkeypatch.setattr(FileSource, "read_at", counting)
    return lengths


@pytest.fixture(scope="module")
def gigabyte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 frames of 720p with a thousand class scores each; the images are holes in a sparse file."""
    directory = tmp_path_factory.mktemp("gigabyte")
    random = np.random.default_rng(0)
    with Bundle.open(small_bundle(directory / "base.zst", frames=3)) as bundle:
        base = bundle.manifest
    with BundleWriter(directory) as writer:
        colours = [np.full((8, 8, 3), (i % 256, i // 256, 0), np.uint8) for i in range(FRAMES)]
        tiny = [writer.image(1 + i, "image", colours[i]) for i in range(FRAMES)]
        scores = [store_array(writer, random.normal(0, 1, (1, 1000)).astype(np.float32)) for _ in range(FRAMES)]
        frames = tuple(
            replace(base.frames[0], id=1 + i, calls=(101 + i,), images=(tiny[i],), output=None) for i in range(FRAMES)
        )
        empty = replace(base.calls[0].args, items=())
        calls = tuple(
            replace(base.calls[0], id=101 + i, frames=(1 + i,), args=empty, output=scores[i]) for i in range(FRAMES)
        )
        writer.finish(directory / "small.zst", replace(base, frames=frames, calls=calls, members=()))
    return _with_holes(directory / "small.zst", directory / "gigabyte.zst")


def _with_holes(small: Path, path: Path) -> Path:
    """Give every image a hole of the length a photograph would have; nothing may read it."""
    data = small.read_bytes()
    compress = FrameCompressor().compress
    with Bundle.open(data) as bundle:
        table, manifest = bundle._table, bundle.manifest
        holes = {member.first_frame for member in manifest.members if member.path.startswith("images/")}
        assert all(member.frame_count == 1 for member in manifest.members)
        listed = [
            replace(member, size_bytes=IMAGE_BYTES) if member.first_frame in holes else member
            for member in manifest.members
        ]
        text = strictjson.dumps(codec.to_json(replace(manifest, members=tuple(listed))))
    entry = ustar.header("manifest.json", len(text)) + text + ustar.padding(len(text))
    packed = compress(entry, 9)
    header = archive.pack_header(len(packed), len(text), hashlib.sha256(text).digest())
    entries = [(len(header), 0), (len(packed), len(entry))]
    with path.open("wb") as file:
        file.write(header + packed)
        for index in range(2, len(table.raw_bytes)):
            if index in holes:
                entries.append((IMAGE_BYTES, ustar.entry_bytes(IMAGE_BYTES)))
                file.seek(IMAGE_BYTES, 1)
            else:
                frame = data[table.offsets[index] : table.offsets[index + 1]]
                entries.append((len(frame), table.raw_bytes[index]))
                file.write(frame)
        file.write(archive.pack_seek_table(entries))
    return path


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--markdown"]])
def test_a_gigabyte_is_shown_for_less_than_a_megabyte(gigabyte: Path, reads: list[int], arguments: list[str]) -> None:
    """Header, manifest, seek table, and the answers of the frames about the trigger; a handful of requests."""
    assert gigabyte.stat().st_size > 2**30
    done = CliRunner().invoke(cli, ["show", str(gigabyte), *arguments])
    assert done.exit_code == 0, done.output
    assert sum(reads) < 10**6
    assert len(reads) < 10
    if not arguments:
        assert "class " in done.output
        assert f"Frames ({FRAMES})" in done.output


def test_one_member_costs_its_own_frames_only(gigabyte: Path, reads: list[int]) -> None:
    """A thumbnail out of a gigabyte: one more request, of its own length."""
    with Bundle.open(gigabyte) as bundle:
        reads.clear()
        thumbnail = bundle.manifest.frames[200].images[0].thumbnail
        assert thumbnail is not None
        content = bundle.read(thumbnail)
        [member] = [member for member in bundle.manifest.members if member.path == thumbnail]
        assert len(content) == member.size_bytes
        assert reads == [bundle._table.compressed_bytes[member.first_frame]]


def test_memory_is_bounded_by_the_largest_member_not_by_the_bundle(tmp_path: Path) -> None:
    """Forty pictures of a megabyte are read one after the other; a member of sixty-four is streamed."""
    random = np.random.default_rng(0)
    with Bundle.open(small_bundle(tmp_path / "base.zst", frames=3)) as bundle:
        base = bundle.manifest
    parts = [random.integers(0, 256, 2**20, np.uint8).tobytes()] * 64
    path, pictures = tmp_path / "a.zst", 40
    with BundleWriter(tmp_path) as writer:
        images = [writer.image(i, "image", random.integers(0, 256, (600, 600, 3), np.uint8)) for i in range(pictures)]
        writer.add("models/" + "ab" * 32 + ".safetensors", iter(parts), 64 * 2**20)
        frames = tuple(replace(base.frames[0], id=i, calls=(), images=(images[i],)) for i in range(pictures))
        writer.finish(path, replace(base, frames=frames, calls=(), members=()))
    with Bundle.open(path) as bundle:
        assert _peak(lambda: [bundle.pixels(frame.images[0]).sum() for frame in bundle.manifest.frames]) < 8 * 2**20
        model = bundle.manifest.members[-1].path
        assert _peak(lambda: sum(len(part) for part in bundle.stream(model))) < 24 * 2**20


def _peak(work: Any) -> int:
    """Bytes that Python objects took at the most while it ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
