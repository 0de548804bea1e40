"""Annotations are carried behind the archive, change no id, and are bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.bundle import Bundle, BundleError, BundleInvalid
from recorder.bundle.annotations import annotate, pack_annotation, unpack_annotation
from recorder.bundle.archive import ANNOTATION_MAGICS
from recorder.bundle.limits import MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS


def test_a_copy_has_the_annotations_it_was_given_and_the_same_id(bundle_bytes: bytes, tmp_path: Path) -> None:
    """They come back as they were; without them the copy is the original, byte for byte."""
    frames = [pack_annotation(magic, bytes([magic & 255]) * n) for n, magic in enumerate(ANNOTATION_MAGICS)]
    path = tmp_path / "a.zst"
    with Bundle.open(bundle_bytes) as source:
        annotate(source, path, frames)
        with Bundle.open(path) as copy:
            assert copy.id == source.id
            assert copy.verify() == []
            assert copy.annotations() == frames
            assert [unpack_annotation(frame)[0] for frame in frames] == list(ANNOTATION_MAGICS)
            annotate(copy, tmp_path / "b.zst", [])
    assert (tmp_path / "b.zst").read_bytes() == bundle_bytes


def test_more_or_larger_ones_than_the_format_has_are_refused(bundle_bytes: bytes, tmp_path: Path) -> None:
    """By the writer, and by the reader of a file that has them."""
    frame = pack_annotation(0x184D2A52, b"x")
    with Bundle.open(bundle_bytes) as source:
        annotate(source, tmp_path / "a.zst", [frame] * MAX_ANNOTATIONS)
        with pytest.raises(BundleError, match="at most 16"):
            annotate(source, tmp_path / "b.zst", [frame] * (MAX_ANNOTATIONS + 1))
    with pytest.raises(ValueError, match="not allowed"):
        pack_annotation(0x184D2A52, bytes(MAX_ANNOTATION_BYTES))
    with pytest.raises(ValueError, match="not allowed"):
        pack_annotation(0x184D2A50, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zst"]


def test_an_annotation_that_is_none_is_refused(bundle_bytes: bytes, tmp_path: Path) -> None:
    """A frame of another magic or a wrong length does not hide behind the archive."""
    for bad in (b"\x50\x2a\x4d\x18\1\0\0\0x", b"\x51\x2a\x4d\x18\2\0\0\0x"):
        with Bundle.open(bundle_bytes) as source:
            annotate(source, tmp_path / "a.zst", [bad])
        with pytest.raises(BundleInvalid, match="behind its archive"):
            Bundle.open(tmp_path / "a.zst")
