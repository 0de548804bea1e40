"""Writer and reader as a machine: whatever order things are stored in, the reader gives back what was stored."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from recorder.bundle import Bundle, BundleInvalid, BundleWriter, Manifest
from recorder.bundle.manifest import Frame, Image
from recorder.bundle.salvage import salvage
from recorder.bundle.tensors import size_in_bytes
from recorder.bundle.values import DTYPES, SequenceValue, TensorValue
from tests.bundles import small_bundle

SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


class WriterAndReader(RuleBasedStateMachine):
    """Stores frames, images, tensors and files; now and then a bundle is written, read, damaged and salvaged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "a.zst"
        self.template: Manifest | None = None
        self.writer: BundleWriter | None = None

    @initialize()
    def begin(self) -> None:
        """An empty writer."""
        with Bundle.open(small_bundle(self.path, frames=2, height=4, width=4)) as bundle:
            self.template = replace(bundle.manifest, frames=(), calls=(), members=())
            self.frame = replace(bundle.manifest.frames[0], images=(), calls=(), output=None)
        self.writer = BundleWriter(self.folder.name)
        self.images: list[tuple[Image, np.ndarray]] = []  # type: ignore[type-arg]
        self.tensors: list[tuple[TensorValue, bytes]] = []
        self.files: dict[str, bytes] = {}

    @rule(
        height=st.integers(0, 9), width=st.integers(0, 9), channels=st.sampled_from([None, 1, 2, 3, 4, 6]),
        deep=st.booleans(), seed=st.integers(0, 3),
    )  # fmt: skip
    def image(self, height: int, width: int, channels: int | None, deep: bool, seed: int) -> None:
        """Pixels of any shape; few seeds, so that some come twice."""
        shape = (height, width) if channels is None else (height, width, channels)
        dtype = np.uint16 if deep else np.uint8
        pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype)
        assert self.writer is not None
        number = len(self.images)
        self.images.append((self.writer.image(number // 3, f"image-{number}", pixels), pixels))

    @rule(dtype=st.sampled_from(DTYPES), shape=SHAPES, seed=st.integers(0, 2), large=st.booleans())
    def tensor(self, dtype: str, shape: tuple[int, ...], seed: int, large: bool) -> None:
        """Small ones share members, large ones are encoded; equal bytes are stored once."""
        shape = (*shape, 3000) if large else shape
        data = np.random.default_rng(seed).integers(0, 9, size_in_bytes(dtype, shape), np.uint8).tobytes()
        strides = tuple(int(np.prod(shape[index + 1 :])) for index in range(len(shape)))
        assert self.writer is not None
        value = self.writer.tensor(
            data, container="numpy", dtype=dtype, shape=shape, strides=strides, alignment=None, device="cpu"
        )
        self.tensors.append((value, data))

    @rule(content=st.binary(max_size=300))
    def file(self, content: bytes) -> None:
        """A file under its digest; a second one of the same path is refused and changes nothing."""
        path = f"models/{hashlib.sha256(content).hexdigest()}.safetensors"
        assert self.writer is not None
        if path in self.files:
            with pytest.raises(ValueError, match="there already"):
                self.writer.add(path, content, len(content))
        else:
            self.writer.add(path, content, len(content))
            self.files[path] = content

    @rule(cut=st.floats(0, 1))
    @precondition(lambda self: self.writer is not None)
    def write_read_and_salvage(self, cut: float) -> None:
        """Everything comes back; a truncated file is refused, and its rest is a part of the whole."""
        assert self.writer is not None
        assert self.template is not None
        identity = self.writer.finish(self.path, replace(self.template, frames=tuple(self._frames())))
        data = self.path.read_bytes()
        with Bundle.open(data) as bundle:
            assert bundle.id == identity
            assert bundle.verify() == []
            found = [image for frame in bundle.manifest.frames for image in frame.images]
            assert found == [image for image, _ in self.images]
            for image, pixels in self.images:
                assert np.array_equal(bundle.pixels(image), pixels)
            for value, content in self.tensors:
                assert bundle.tensor_bytes(value) == content
            for path, content in self.files.items():
                assert bundle.read(path) == content == b"".join(bundle.stream(path))
            whole = {member.path: bundle.read(member.path) for member in bundle.manifest.members}
        damaged = data[: int(cut * (len(data) - 1))]
        with pytest.raises(BundleInvalid):
            Bundle.open(damaged)
        try:
            salvage(damaged, self.path)
        except BundleInvalid:
            return
        with Bundle.open(self.path) as rest:
            assert rest.verify() == []
            assert {member.path: rest.read(member.path) for member in rest.manifest.members}.items() <= whole.items()

    @invariant()
    def no_scratch_file_is_seen(self) -> None:
        """The scratch file has no name, and nothing half-written stays."""
        assert {path.name for path in Path(self.folder.name).iterdir()} <= {"a.zst"}

    def _frames(self) -> list[Frame]:
        frames = []
        for index in range(1 + max(0, len(self.images) - 1) // 3):
            images = tuple(image for image, _ in self.images[3 * index : 3 * index + 3])
            output = SequenceValue(form="tuple", items=tuple(value for value, _ in self.tensors)) if not index else None
            frames.append(replace(self.frame, id=index, images=images, output=output))
        return frames

    def teardown(self) -> None:
        """Leave nothing behind."""
        if self.writer is not None:
            self.writer.close()
        self.folder.cleanup()


TestWriterAndReader = WriterAndReader.TestCase
TestWriterAndReader.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
