"""Bundles of every released version are read for ever, with the same content as on the day they were made."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from examples.minimal_reader import Reader
from recorder.bundle import Bundle
from recorder.bundle.check import tensors_in
from recorder.bundle.codec import to_json
from recorder.trust.signatures import is_valid, load_signing_key, signatures_of
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.verdict import Level
from tests.golden.regenerate import (
    CONTENTS,
    FOLDER,
    GOLDENS,
    GRAPHS,
    SALVAGED,
    SIGNED,
    TEST_KEY,
    THIN_BYTES,
    THINNED,
    TRACK,
    contents_of,
    write,
)

RECORDED: dict[str, Any] = json.loads(CONTENTS.read_text())
NAMES = sorted(RECORDED)
ROOT = FOLDER.parents[1]


def test_every_golden_bundle_is_listed_small_and_unchanged() -> None:
    """A golden bundle is never written again."""
    assert sorted(path.stem for path in FOLDER.glob("*.zst")) == NAMES
    assert {*GOLDENS, SALVAGED, SIGNED, TRACK, THINNED} <= set(NAMES)
    for name in NAMES:
        data = (FOLDER / f"{name}.zst").read_bytes()
        assert len(data) < 60_000
        assert hashlib.sha256(data).hexdigest() == RECORDED[name]["file"]


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_bundle_reads_as_on_the_day_it_was_made(name: str) -> None:
    """Same id, members, pixels and arrays."""
    path = FOLDER / f"{name}.zst"
    assert contents_of(path) == RECORDED[name]
    with Bundle.open(path) as bundle:
        assert bundle.verify() == []


@pytest.mark.parametrize("name", NAMES)
def test_the_minimal_reader_lists_and_unpacks_it(name: str, tmp_path: Path) -> None:
    """As a program, with nothing of this package on its path; every byte agrees with ours."""
    path = FOLDER / f"{name}.zst"
    command = [sys.executable, "-I", str(ROOT / "examples" / "minimal_reader.py"), str(path), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240, cwd=tmp_path)
    second = Reader(path.read_bytes())
    with Bundle.open(path) as bundle:
        assert done.stdout.startswith(f"bundle {bundle.id}: {len(bundle.manifest.members)} members")
        assert second.manifest == json.loads(json.dumps(to_json(bundle.manifest)))
        for member in bundle.manifest.members:
            assert (tmp_path / member.path).read_bytes() == bundle.read(member.path)
        for _, tensor in tensors_in(bundle.manifest):
            unpacked = tmp_path / "tensors" / f"{tensor.sha256[:16]}.{tensor.dtype}"
            assert unpacked.read_bytes() == bundle.tensor_bytes(tensor)


def test_graphs_of_every_version_are_run_for_ever() -> None:
    """That of one shape, and that which serves others: with the recorded bits, inside the bundle they came in."""
    path = FOLDER / f"{GRAPHS}.zst"
    with Bundle.open(path) as bundle:
        result = replay_bundle(bundle, ReplayOptions(bundle_path=path, repeat=1, numerics="here"))
    assert result.verdict is Level.BIT_EXACT, [frame.reason for frame in result.frames]


def test_the_signed_bundle_is_signed_for_ever() -> None:
    """By the two keys it was signed with; its id is that of the unsigned one, and so are all its bytes before."""
    with Bundle.open(FOLDER / f"{SIGNED}.zst") as bundle, Bundle.open(FOLDER / "1.0-exception.zst") as plain:
        found = signatures_of(bundle)
        assert [each.public_key.hex()[:8] for each in found] == [
            load_signing_key(TEST_KEY).public_key.hex()[:8],
            "3b6a27bc",  # RFC 8032's arithmetic on a key of zeros
        ]
        assert all(is_valid(each, bundle.manifest_bytes) for each in found)
        assert bundle.id == plain.id
        whole = plain.read_range(0, plain.archive_bytes)
        assert bundle.read_range(0, bundle.archive_bytes) == whole


def test_the_minimal_reader_fits_on_a_page() -> None:
    """Below 150 lines, standard library and zstandard alone."""
    text = (ROOT / "examples" / "minimal_reader.py").read_text()
    assert len(text.splitlines()) < 150
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= {*sys.stdlib_module_names, "zstandard"}


@pytest.mark.parametrize("name", sorted([*GOLDENS, TRACK, THINNED]))
def test_the_writer_still_says_the_same(name: str, tmp_path: Path) -> None:
    """Twice the same bytes; and what a reader gets out is what the golden bundle holds, up to encoders' own bytes."""
    first = write(tmp_path, name)
    data = first.read_bytes()
    assert write(tmp_path, name).read_bytes() == data
    fresh = contents_of(first)
    assert fresh["arrays"] == RECORDED[name]["arrays"]
    assert set(fresh["members"]) == set(RECORDED[name]["members"])
    ours = {key: digest for key, digest in fresh["pixels"].items() if key not in ("frame 20 palette", "frame 20 png")}
    assert ours.items() <= RECORDED[name]["pixels"].items()


def test_the_thinned_one_keeps_to_its_size_and_says_what_it_lacks() -> None:
    """The trigger's frame has its payload, the batch went together, every frame is listed."""
    path = FOLDER / f"{THINNED}.zst"
    assert path.stat().st_size <= THIN_BYTES
    with Bundle.open(path) as bundle:
        thinning = bundle.manifest.incident.thinning
        assert thinning is not None and thinning.max_bundle_bytes == THIN_BYTES
        lacking = set(thinning.frames)
        assert {5, 6} <= lacking or lacking.isdisjoint({5, 6})
        assert 1 not in lacking and 7 in lacking
        for frame in bundle.manifest.frames:
            assert (frame.id in lacking) == bool(frame.images_left_out) == (not frame.images)
            assert frame.output is not None


def test_together_they_hold_every_feature_of_the_format() -> None:
    """Encodings of images and tensors, dtypes, statuses, kinds of value."""
    encodings, dtypes, images, statuses, texts = set(), set(), set(), set(), ""
    for name in NAMES:
        with Bundle.open(FOLDER / f"{name}.zst") as bundle:
            for _, tensor in tensors_in(bundle.manifest):
                encodings.add(tensor.encoding)
                dtypes.add(tensor.dtype)
            for frame in bundle.manifest.frames:
                images |= {(image.encoding, image.pixels_sha256 is None) for image in frame.images}
                statuses.add(frame.status)
            texts += bundle.manifest_bytes.decode()
    from recorder.bundle.values import DTYPES

    assert encodings == {"raw", "shuffle", "table", "planes"}
    assert dtypes == set(DTYPES)
    assert images == {("png", False), ("jpeg", False), ("webp", False), ("raw", False), ("raw", True), ("jpeg", True)}
    assert statuses == {"complete", "raised", "open"}
    for tag in ("tensor", "tuple", "list", "dict", "record", "scalar", "float", "opaque"):
        assert f'{{"{tag}":' in texts
