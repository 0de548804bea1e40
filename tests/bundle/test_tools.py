"""Tools that know nothing of us open a bundle. They are required: without them this fails, it does not skip."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import pyzstd
import zstandard
from PIL import Image as pil

from recorder.bundle import Bundle, ustar
from recorder.bundle.annotations import annotate
from recorder.trust.signatures import load_signing_key
from tests.bundles import small_bundle
from tests.golden.regenerate import TEST_KEY


@pytest.fixture(params=["plain", "signed"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bundle under its usual name; a signature behind the archive disturbs nobody."""
    plain = small_bundle(tmp_path / "incident.zst")
    if request.param == "signed":
        with Bundle.open(plain) as source:
            key = load_signing_key(TEST_KEY)
            annotate(source, plain, [key.annotation(source.manifest_bytes)] * 2)
    return plain


def run(*command: str) -> str:
    """Run a tool that must succeed without a warning (Debian packages tar, zstd and libarchive-tools)."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_gnu_tar_lists_the_manifest_first(path: Path) -> None:
    """With the option, and by the suffix alone."""
    listed = run("tar", "--zstd", "-tf", str(path)).splitlines()
    assert run("tar", "-tf", str(path)).splitlines() == listed
    with Bundle.open(path) as bundle:
        assert listed == ["manifest.json", *[member.path for member in bundle.manifest.members]]


def test_gnu_tar_unpacks_members_whose_pictures_open(path: Path, tmp_path: Path) -> None:
    """After `tar x` the images are ordinary files and the manifest's digest is the bundle's id."""
    target = tmp_path / "unpacked"
    target.mkdir()
    run("tar", "--zstd", "-xf", str(path), "-C", str(target))
    with Bundle.open(path) as bundle:
        assert hashlib.sha256((target / "manifest.json").read_bytes()).hexdigest() == bundle.id
        for frame in bundle.manifest.frames:
            with pil.open(target / frame.images[0].member) as opened:
                assert np.array_equal(np.asarray(opened), bundle.pixels(frame.images[0]))


def test_bsdtar_lists_and_unpacks_the_same(path: Path, tmp_path: Path) -> None:
    """libarchive's tar, which finds out the compression by itself (Debian's libarchive-tools)."""
    target = tmp_path / "unpacked"
    target.mkdir()
    run("bsdtar", "-xf", str(path), "-C", str(target))
    with Bundle.open(path) as bundle:
        listed = run("bsdtar", "-tf", str(path)).splitlines()
        assert listed == ["manifest.json", *[member.path for member in bundle.manifest.members]]
        for member in bundle.manifest.members:
            assert (target / member.path).read_bytes() == bundle.read(member.path)


def test_pyzstds_seekable_file_reads_any_place_of_the_tar(path: Path) -> None:
    """Another implementation of zstd's seekable format finds every member where the seek table says."""
    with Bundle.open(path) as bundle, pyzstd.SeekableZstdFile(path) as file:
        size = ustar.entry_bytes(len(bundle.manifest_bytes))
        assert file.read(size)[512 : 512 + len(bundle.manifest_bytes)] == bundle.manifest_bytes
        places = []
        for member in bundle.manifest.members:
            places.append((size + ustar.BLOCK_BYTES, member))
            size += ustar.entry_bytes(member.size_bytes)
        for place, member in reversed(places):
            file.seek(place)
            assert file.read(member.size_bytes) == bundle.read(member.path)
        assert file.seek(0, 2) == size + len(ustar.END_OF_ARCHIVE)


def test_the_zstd_program_finds_it_intact(path: Path) -> None:
    """Every frame carries its checksum."""
    run("zstd", "-q", "-t", str(path))
    assert "XXH64" in run("zstd", "-l", str(path))


def test_pythons_tarfile_reads_every_member(path: Path) -> None:
    """Over zstandard's stream, and the USTAR header it would write says the same as ours."""
    with (
        Bundle.open(path) as bundle,
        path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            if entry.name != "manifest.json":
                assert content.read() == bundle.read(entry.name)
            info = tarfile.TarInfo(entry.name)
            info.size, info.mtime = entry.size, ustar.MTIME_SECONDS
            theirs, ours = info.tobuf(tarfile.USTAR_FORMAT), ustar.header(entry.name, entry.size)
            assert (theirs[:148], theirs[156:329]) == (ours[:148], ours[156:329])  # all but checksum and device


def test_a_member_beyond_four_megabytes_unpacks_whole(tmp_path: Path) -> None:
    """Long members are split over several frames."""
    path = small_bundle(tmp_path / "large.zst", frames=1, height=1200, width=1600)
    with Bundle.open(path) as bundle:
        assert max(member.frame_count for member in bundle.manifest.members) > 1
        assert bundle.verify() == []
        image = bundle.manifest.frames[0].images[0]
        run("tar", "--zstd", "-xf", str(path), "-C", str(tmp_path), image.member)
        assert (tmp_path / image.member).read_bytes() == bundle.read(image.member)
