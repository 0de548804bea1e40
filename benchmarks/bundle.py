"""Size and speed of a bundle against other ways to keep the same frames: ``python -m benchmarks --only bundle``.

Frames are natural pictures (scikit-image's astronaut and coffee, tiled to 720p) with sensor noise of sigma 2; beside
each stand the model's input (1x3x224x224 float32, normalised) and its output (1x1000 float32). All ways run
interleaved, frame after frame, on one core, so that what the machine does besides hits all alike: ratios count.
Everything is written to memory and to tmpfs; nothing waits for a disk.
"""

from __future__ import annotations

import importlib.util
import io
import os
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from PIL import Image as pil

from benchmarks.payload import scratch
from benchmarks.results import Section, Table
from recorder.bundle import Bundle, BundleWriter
from recorder.bundle.manifest import Frame, Image, Manifest
from recorder.bundle.tensors import logical_array
from recorder.bundle.values import SequenceValue, TensorValue

__all__ = ["measure"]

Array = npt.NDArray[Any]
Parts = tuple[Array, Array, Array]  # image, model input, output

MEAN, SCALE = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def frames(count: int) -> Iterator[Parts]:
    """Frames of a camera that moves a little, and what a classifier got and gave."""
    from skimage import data

    random = np.random.default_rng(0)
    pictures = [np.tile(picture, (3, 4, 1)) for picture in (data.astronaut(), data.coffee())]
    rows, columns = np.linspace(0, 719, 224).astype(int), np.linspace(0, 1279, 224).astype(int)
    for index in range(count):
        clean = np.roll(pictures[index % 2], 7 * index, axis=1)[:720, :1280]
        image = np.clip(clean + random.normal(0, 2, clean.shape), 0, 255).astype(np.uint8)
        small = image[rows][:, columns].astype(np.float32) / np.float32(255)
        tensor = np.ascontiguousarray(np.moveaxis((small - MEAN) / SCALE, 2, 0)[None])
        yield image, tensor, random.normal(0, 1, (1, 1000)).astype(np.float32)


@dataclass
class Way:
    """One way to keep frames: writes one more, finishes, and reads all again."""

    name: str
    add: Callable[[int, Parts], None]
    finish: Callable[[], int]  #: returns the bytes written
    read: Callable[[], int]  #: reads all pixels and tensors; returns their bytes
    encode_seconds: float = 0.0
    decode_seconds: float = field(default=float("inf"))
    size_bytes: int = 0


def bundle_way(directory: Path) -> Way:
    """This package's bundle."""
    writer = BundleWriter(directory)
    path = directory / "bundle.zst"
    kept: list[tuple[Image, tuple[TensorValue, ...]]] = []

    def store(array: Array) -> TensorValue:
        strides = tuple(step // array.itemsize for step in array.strides)
        return writer.tensor(
            memoryview(array).cast("B"), container="torch", dtype=array.dtype.name, shape=array.shape,
            strides=strides, alignment=0, device="cpu",
        )  # fmt: skip

    def add(index: int, parts: Parts) -> None:
        kept.append((writer.image(index, "image", parts[0]), tuple(store(array) for array in parts[1:])))

    def finish() -> int:
        writer.finish(path, manifest())
        writer.close()
        return path.stat().st_size

    def manifest() -> Manifest:
        from tests.bundles import small_bundle

        with Bundle.open(small_bundle(directory / "template.zst", frames=2)) as template:
            base = template.manifest
        frame: Frame = base.frames[0]
        from dataclasses import replace

        listed = tuple(
            replace(frame, id=index, calls=(), images=(image,), output=SequenceValue(form="tuple", items=tensors))
            for index, (image, tensors) in enumerate(kept)
        )
        return replace(base, frames=listed, calls=(), members=())

    def read() -> int:
        total = 0
        with Bundle.open(path) as opened:
            for each in opened.manifest.frames:
                total += opened.pixels(each.images[0]).nbytes
                assert isinstance(each.output, SequenceValue)
                for tensor in each.output.items:
                    assert isinstance(tensor, TensorValue)
                    data = opened.tensor_bytes(tensor)
                    total += logical_array(data, tensor.dtype, tensor.shape, tensor.strides).nbytes
        return total

    return Way("bundle", add, finish, read)


def png_zip_way(directory: Path) -> Way:
    """A zip of PNG files and .npy files, both at level 6: what people do by hand."""
    path = directory / "png.zip"
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6)

    def add(index: int, parts: Parts) -> None:
        file = io.BytesIO()
        pil.fromarray(parts[0]).save(file, "PNG", compress_level=6)
        archive.writestr(zipfile.ZipInfo(f"{index}.png"), file.getvalue(), zipfile.ZIP_STORED)
        for number, array in enumerate(parts[1:]):
            archive.writestr(f"{index}-{number}.npy", _npy(array))

    def finish() -> int:
        archive.close()
        return path.stat().st_size

    def read() -> int:
        total = 0
        with zipfile.ZipFile(path) as opened:
            for name in opened.namelist():
                data = io.BytesIO(opened.read(name))
                total += np.asarray(pil.open(data)).nbytes if name.endswith("png") else np.load(data).nbytes
        return total

    return Way("zip of PNG, level 6", add, finish, read)


def tar_way(directory: Path) -> Way:
    """Arrays as they are in a tar, zstd level 3 around it."""
    path = directory / "tar.zst"
    file = path.open("wb")
    stream = zstandard.ZstdCompressor(level=3).stream_writer(file)
    archive = tarfile.open(fileobj=stream, mode="w|")  # noqa: SIM115 - closed in finish

    def add(index: int, parts: Parts) -> None:
        for number, array in enumerate(parts):
            data = _npy(array)
            info = tarfile.TarInfo(f"{index}-{number}.npy")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

    def finish() -> int:
        archive.close()
        stream.close()
        return path.stat().st_size

    def read() -> int:
        total = 0
        with path.open("rb") as packed, zstandard.ZstdDecompressor().stream_reader(packed) as raw:
            for entry in (opened := tarfile.open(fileobj=raw, mode="r|")):  # noqa: SIM115
                content = opened.extractfile(entry)
                assert content is not None
                total += np.load(io.BytesIO(content.read())).nbytes
        return total

    return Way("tar of arrays, zstd 3", add, finish, read)


def npz_way(directory: Path, compressed: bool = True) -> Way:
    """numpy's archive."""
    path = directory / f"frames-{compressed}.npz"
    kept: dict[str, Array] = {}

    def add(index: int, parts: Parts) -> None:
        kept.update({f"{index}-{number}": array for number, array in enumerate(parts)})

    def finish() -> int:
        (np.savez_compressed if compressed else np.savez)(path, **kept)  # type: ignore[arg-type]
        return path.stat().st_size

    def read() -> int:
        with np.load(path) as opened:
            return sum(opened[name].nbytes for name in opened.files)

    return Way("npz, compressed" if compressed else "npz", add, finish, read)


def torch_way(directory: Path) -> Way:
    """torch.save: a zip without compression, and pickle inside."""
    import torch

    path = directory / "frames.pt"
    kept: list[tuple[Any, ...]] = []

    def add(index: int, parts: Parts) -> None:
        kept.append(tuple(torch.from_numpy(array) for array in parts))

    def finish() -> int:
        torch.save(kept, path)
        return path.stat().st_size

    def read() -> int:
        return sum(tensor.nbytes for parts in torch.load(path, weights_only=True) for tensor in parts)

    return Way("torch.save", add, finish, read)


def mcap_way(directory: Path) -> Way:
    """MCAP with zstd chunks, arrays as they are, where the package is installed."""
    from mcap.reader import make_reader
    from mcap.writer import CompressionType, Writer

    path = directory / "frames.mcap"
    file = path.open("wb")
    writer = Writer(file, compression=CompressionType.ZSTD)
    writer.start()
    channel = writer.register_channel(topic="frames", message_encoding="npy", schema_id=0)

    def add(index: int, parts: Parts) -> None:
        for array in parts:
            writer.add_message(channel, log_time=index, data=_npy(array), publish_time=index)

    def finish() -> int:
        writer.finish()
        file.close()
        return path.stat().st_size

    def read() -> int:
        with path.open("rb") as opened:
            return sum(np.load(io.BytesIO(m.data)).nbytes for _, _, m in make_reader(opened).iter_messages())

    return Way("MCAP, zstd", add, finish, read)


def _npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def measure(count: int) -> Section:
    """Keep so many frames in every way, interleaved, and read them again."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with scratch() as directory:
            makers = [bundle_way, png_zip_way, tar_way, npz_way, partial(npz_way, compressed=False), torch_way]
            makers += [mcap_way] if importlib.util.find_spec("mcap") else []
            ways = [make(directory) for make in makers]
            total = _run(ways, count)
    finally:
        os.sched_setaffinity(0, before)
    ours, base = ways[0], ways[1]
    text = (
        f"{count} natural 720p frames with a 1×3×224×224 float32 input and a 1×1000 output each, {total / 1e6:.0f} MB; "
        "CPU time of one core, all ways frame after frame. The bundle takes "
        f"**{ours.size_bytes / base.size_bytes:.3f} ×** the bytes of a zip of PNG files and arrays, both at level 6, "
        f"at **{base.encode_seconds / ours.encode_seconds:.1f} ×** its speed (goals: 0.95 ×, 8 ×), and is read at "
        f"**{total / 1e6 / ours.decode_seconds:.0f} MB/s**, digests checked (goal: 250 MB/s)."
    )
    rows = [
        [
            way.name,
            f"{way.size_bytes / 1e6:.1f}",
            f"{way.size_bytes / base.size_bytes:.3f}",
            f"{total / 1e6 / way.encode_seconds:.0f}",
            f"{base.encode_seconds / way.encode_seconds:.1f}",
            f"{total / 1e6 / way.decode_seconds:.0f}",
            f"{base.decode_seconds / way.decode_seconds:.1f}",
        ]
        for way in ways
    ]
    columns = ["what", "MB", "size, × zip", "encode MB/s", "encode, × zip", "decode MB/s", "decode, × zip"]
    return Section("Bundle", text, Table(columns, rows))


def _run(ways: list[Way], count: int) -> int:
    """Fill in the measurements; returns the bytes of all frames."""
    total = 0
    for index, parts in enumerate(frames(count)):
        total += sum(array.nbytes for array in parts)
        for way in ways:
            start = time.process_time()
            way.add(index, parts)
            way.encode_seconds += time.process_time() - start
    for way in ways:
        start = time.process_time()
        way.size_bytes = way.finish()
        way.encode_seconds += time.process_time() - start
    for _ in range(5):
        for way in ways:
            start = time.process_time()
            if way.read() != total:
                raise AssertionError(f"{way.name} gave other bytes than it was given")
            way.decode_seconds = min(way.decode_seconds, time.process_time() - start)
    return total
