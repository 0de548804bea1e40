"""What the fuzzer feeds: a function for each parser of foreign bytes, the errors it may end in, and honest bytes.

A target returns, or raises one of its errors, whose text is one printable line. Everything else is a crash.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack

from recorder.bundle import Bundle, BundleError, BundleInvalid
from tests.golden.regenerate import FOLDER

__all__ = ["TARGETS", "Target"]

#: What a mutation may take of memory above what the process has; inputs are small.
MAX_INPUT_BYTES = 2**17


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        run: given bytes, reads them by every way there is.
        seeds: honest inputs.
        errors: what it may raise.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    errors: Callable[[], tuple[type[Exception], ...]] = lambda: (BundleError,)

    def __call__(self, data: bytes) -> None:
        """Feed it one input; what is no clean end is raised."""
        try:
            self.run(data)
        except self.errors() as error:
            assert str(error).isprintable(), f"an error that is not one printable line: {error!r}"


@functools.cache
def goldens() -> list[bytes]:
    """The smaller golden bundles."""
    return [data for path in sorted(FOLDER.glob("*.zst")) if len(data := path.read_bytes()) < MAX_INPUT_BYTES]


def _bundle(data: bytes) -> None:
    with Bundle.open(data) as bundle:
        bundle.verify()


def _texts() -> list[bytes]:
    texts = []
    for data in goldens():
        with Bundle.open(data) as bundle:
            texts.append(bundle.manifest_bytes)
    return texts


def _manifest(data: bytes) -> None:
    from recorder.bundle.parse import parse_manifest

    parse_manifest(data)


def _members() -> list[bytes]:
    """Index of the bundle, index of the member, content."""
    seeds = []
    for index, data in enumerate(goldens()):
        with Bundle.open(data) as bundle:
            for number, member in enumerate(bundle.manifest.members[:20]):
                if member.size_bytes < 2**14:
                    seeds.append(bytes([index, number]) + bundle.read(member.path))
    return seeds


def _member(data: bytes) -> None:
    """Everything around the member is made to agree with it, so that it is looked at."""
    from tests.attacks.mutations import _read
    from tests.bundle.forge import Forgery

    index = data[0] % len(goldens()) if data else 0
    forgery = _forgery(index)
    if len(data) > 2 and forgery.contents:
        number = data[1] % len(forgery.contents)
        contents = list(forgery.contents)
        contents[number] = (contents[number][0], data[2:])
        built: Forgery = replace(forgery, contents=contents)
        _read(built.build())


@functools.cache
def _forgery(index: int) -> Any:
    from tests.bundle.forge import Forgery

    return Forgery.of(goldens()[index])


def _tables() -> list[bytes]:
    with Bundle.open((FOLDER / "1.0-track.zst").read_bytes()) as bundle:
        assert bundle.manifest.track is not None
        return [bundle.read(bundle.manifest.track.member)]


def _track_table(data: bytes) -> None:
    from recorder.bundle.track import decode

    decode(data, _golden_track())


@functools.cache
def _golden_track() -> Any:
    with Bundle.open((FOLDER / "1.0-track.zst").read_bytes()) as bundle:
        return bundle.manifest.track


def _salvage(data: bytes) -> None:
    from recorder.bundle.salvage import salvage

    target = _scratch() / "salvaged.zst"
    salvage(data, target)
    with Bundle.open(target) as bundle:
        assert not bundle.verify()


@functools.cache
def _scratch() -> Path:
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _encoded(data: bytes) -> None:
    from recorder.bundle.encodings import decode

    if len(data) > 4:
        item_bytes = (1, 2, 4, 8, 16)[data[1] % 5]  # a tensor's size is a multiple of it: the manifest's check
        encoding = ("raw", "table", "shuffle")[data[0] % 3]
        decode(data[4:], encoding, item_bytes, int.from_bytes(data[2:4], "little") * item_bytes)


def _encodings() -> list[bytes]:
    table = struct.pack("<IIH", 1, 4, 2) + bytes([3, 9]) + bytes([0, 1, 0, 0])
    return [bytes([0, 0, 4, 0]) + bytes(4), bytes([1, 0, 4, 0]) + table, bytes([2, 1, 8, 0]) + bytes(16)]


def _image(data: bytes) -> None:
    from recorder.bundle.images import decode_file, sniff
    from recorder.image_signals import decode_reduced

    form = sniff(data)
    if form != "raw":
        decode_reduced(data, form)
        decode_file(data, form)


def _image_errors() -> tuple[type[Exception], ...]:
    from recorder.bundle.images import DECODER_ERRORS

    return DECODER_ERRORS


def _pictures() -> list[bytes]:
    from PIL import Image as pil

    seeds = []
    for mode in ("RGB", "L", "P", "1", "RGBA", "CMYK", "I;16"):
        for form in ("PNG", "JPEG", "WEBP"):
            file = io.BytesIO()
            try:
                pil.new(mode, (9, 5), 1).save(file, form)
            except (OSError, ValueError):
                continue
            seeds.append(file.getvalue())
    return seeds


def _graph(data: bytes) -> None:
    import torch

    from replay.graph.document import load_graph

    load_graph(data, {"weight": torch.zeros(2, 2)})


def _graph_errors() -> tuple[type[Exception], ...]:
    from replay.graph.arguments import GraphRefused

    return (GraphRefused,)


def _graphs() -> list[bytes]:
    from recorder.graph_format import FORMAT_NAME

    x = {"ref": 0}
    content = {
        "format": FORMAT_NAME, "version": 1, "weights": [{"name": "weight", "requires_grad": False}],
        "constants": [{"dtype": "float32", "shape": [1], "data": "AAAAAA=="}],
        "inputs": [{"dtype": "float32", "shape": [2, 2]}], "args": {"tuple": [x]}, "kwargs": {"dict": []},
        "nodes": [
            {"op": "aten.add.Tensor", "args": [x, x], "kwargs": {"alpha": 2}},
            {"op": "aten.expand.default", "args": [x, {"list": [4, 2, 2]}], "kwargs": {}},
            {"op": "higher_order.wrap_with_set_grad_enabled",
             "args": [False, {"graph": {"inputs": 1, "nodes": [], "output": x}}, x], "kwargs": {}},
        ],
        "mutations": [], "output": {"ref": 3},
    }  # fmt: skip
    return [json.dumps(content).encode()]


def _weights(data: bytes) -> None:
    from replay.worker.weights import load_weights

    path = _scratch() / "weights.safetensors"
    path.write_bytes(data)
    load_weights(path, hashlib.sha256(data).hexdigest(), {})


def _weights_errors() -> tuple[type[Exception], ...]:
    from replay.worker.weights import WeightsRefused

    return (WeightsRefused,)


def _safetensors() -> list[bytes]:
    header = json.dumps(
        {
            "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
            "b": {"dtype": "BF16", "shape": [], "data_offsets": [8, 10]},
        }
    ).encode()
    return [struct.pack("<Q", len(header)) + header + bytes(10)]


def _onnx(data: bytes) -> None:
    from recorder.models.onnx_file import references_of

    references_of(memoryview(data))


def _onnx_errors() -> tuple[type[Exception], ...]:
    from recorder.models.onnx_file import OnnxInvalid

    return (OnnxInvalid,)


def _onnx_models() -> list[bytes]:
    from tests.hooks.conftest import tiny_model

    return [tiny_model().SerializeToString(), tiny_model("my.ops").SerializeToString()]


def _worker(data: bytes) -> None:
    """As the parent hears a worker that a hostile model has taken over."""
    from recorder.bundle.codec import from_json
    from recorder.bundle.manifest import Environment
    from replay.numerics.surroundings import compare_surroundings
    from replay.protocol import read_message

    reading, writing = os.pipe()
    try:
        os.write(writing, data[: 2**15])
        os.close(writing)
        message = read_message(reading, max_payload_bytes=2**20)
    finally:
        os.close(reading)
    if message is not None:
        header, payload = message
        _hear(header, payload)
        environment = from_json(Environment, header.get("environment"), "the worker's environment")
        assert all(isinstance(sentence, str) for sentence in compare_surroundings(environment, environment))


def _hear(header: dict[str, Any], payload: bytearray) -> None:
    from replay.compare.comparison import compare_answers
    from replay.exchange import digest_of
    from replay.outcome import Returned, outcome_from_wire
    from replay.protocol import ProtocolError

    try:
        outcome = outcome_from_wire(header, payload)
    except ProtocolError:
        return
    if isinstance(outcome, Returned):
        digest_of(outcome.answer)
        compare_answers(outcome.answer, outcome.answer, where="output")


def _worker_errors() -> tuple[type[Exception], ...]:
    from replay.protocol import ProtocolError

    return (ProtocolError, BundleInvalid)


def _messages() -> list[bytes]:
    tensor = {"container": "torch", "dtype": "float32", "shape": [2], "strides": [1], "alignment": 0, "device": "cpu",
              "offset": 0, "size_bytes": 8}  # fmt: skip
    environment = {"python": "", "platform": "", "cpu": {"flags": ["avx2"]}, "gpus": [{"name": "x"}], "packages": {},
                   "variables": {}, "libraries": {"torch.config": "a"}, "settings": {}}  # fmt: skip
    headers = [
        {"status": "returned", "seconds": 0.5, "answer": {"tuple": [{"tensor": tensor}, {"scalar": 3}]}},
        {"status": "returned", "seconds": 0.5, "answer": {"dict": [["scores", {"list": [{"float": "nan"}]}]]}},
        {"status": "raised", "type": "a.B", "message": "m", "cannot": None},
        {"status": "ok", "environment": environment},
    ]
    packed = [msgpack.packb(header) for header in headers]
    return [struct.pack("<IQ", len(each), 8) + each + bytes(8) for each in packed]


@functools.cache
def _a_ring() -> bytes:
    """A small ring with the records of a real recording."""
    from tests.attacks.leftovers import leave
    from tests.attacks.small_ring import small_ring

    return small_ring(leave(_scratch() / "recording"), _scratch() / "small.ring")


def _rings() -> list[bytes]:
    return [_a_ring()]


def _ring(data: bytes) -> None:
    from recorder.ring import RingReader
    from recorder.sealer.assemble import assemble
    from recorder.sealer.leftover import salvage
    from recorder.sealer.window import incident_name

    path = _scratch() / "fuzzed.ring"
    path.write_bytes(data)
    with RingReader(path) as reader:
        window = salvage(reader, incident_name(reader), "recovered", ending="unknown")
        bundle = assemble(window.incident, window.records, window.latched, _scratch())
    with Bundle.open(bundle) as opened:
        assert not opened.verify()


def _ring_errors() -> tuple[type[Exception], ...]:
    from recorder.ring import RingError

    return (RingError,)


def _records() -> list[bytes]:
    """Kind and head of records, each with its length before it; payloads are zeros."""
    from tests.attacks.small_ring import heads_of

    _a_ring()
    heads = heads_of(_scratch() / "recording" / "left" / "host.ring")
    return [b"".join(struct.pack("<BI", kind, len(head)) + head for kind, head in heads[:12]), *(
        struct.pack("<BI", kind, len(head)) + head for kind, head in heads
    )]  # fmt: skip


def _stages(data: bytes) -> None:
    from recorder.records import RecordInvalid, unpack_head
    from recorder.ring import Record
    from recorder.sealer.assemble import assemble
    from recorder.sealer.latched import Latched
    from recorder.sealer.rules import Rules
    from recorder.sealer.stages import StageRecord
    from tests.attacks.small_ring import AN_INCIDENT

    stages, latched = [], Latched()
    for number, (kind, head) in enumerate(_cut(data)):
        try:
            content = unpack_head(head)
        except RecordInvalid as error:
            assert str(error).isprintable()
            continue
        latched.take(kind, content)
        source = Record(2, number + 1, kind, 1, 0, 2**20)
        stages.append(StageRecord(kind, 1, content, lambda _, size: bytes(min(size, 2**20)), source, 0))
    Rules(latched.rules).evaluate("", 1, 0, stages)
    with Bundle.open(assemble(AN_INCIDENT, stages, latched, _scratch())) as bundle:
        assert not bundle.verify()


def _cut(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 5 <= len(data):
        kind, length = struct.unpack_from("<BI", data, place)
        yield kind, data[place + 5 : place + 5 + length]
        place += 5 + length


def _track_file(data: bytes) -> None:
    from recorder.bundle.writer import BundleWriter
    from recorder.track.reader import TrackReader
    from recorder.track.sealed import store_track

    path = _scratch() / "fuzzed.track"
    path.write_bytes(data)
    with TrackReader(path) as reader:
        view = reader.load().recent()
    with BundleWriter(_scratch()) as writer:
        store_track(writer, view, "line-0")


def _track_files() -> list[bytes]:
    _a_ring()
    data = (_scratch() / "recording" / "left" / "host.ring.track").read_bytes()
    return [data]


def _track_errors() -> tuple[type[Exception], ...]:
    from recorder.track import TrackInvalid

    return (TrackInvalid,)


def _status(data: bytes) -> None:
    from recorder.sealer.progress import Progress, Told, progress_path
    from recorder.status import StatusReader, StatusWriter, status_path

    ring = _scratch() / "reported.ring"
    status_path(ring).write_bytes(data)
    progress_path(ring).write_bytes(data[:24])
    progress = Progress(ring)
    progress.store((3, 4))
    progress.close()
    Told.about(ring)
    StatusWriter(status_path(ring)).append({"event": "flushed"})
    StatusReader(status_path(ring)).poll()


def _statuses() -> list[bytes]:
    lines = [
        {"n": 1, "event": "opened", "incident": "0" * 32},
        {"n": 2, "event": "sealed", "incident": "0" * 32, "path": "p"},
    ]
    return [b"".join(json.dumps(line).encode() + b"\n" for line in lines), b"VFR-PROG" + bytes(16)]


TARGETS: dict[str, Target] = {
    "bundle": Target(_bundle, goldens),
    "manifest": Target(_manifest, _texts),
    "member": Target(_member, _members),
    "salvage": Target(_salvage, goldens),
    "track-table": Target(_track_table, _tables),
    "tensor-encoding": Target(_encoded, _encodings),
    "image": Target(_image, _pictures, _image_errors),
    "graph": Target(_graph, _graphs, _graph_errors),
    "weights": Target(_weights, _safetensors, _weights_errors),
    "onnx": Target(_onnx, _onnx_models, _onnx_errors),
    "worker": Target(_worker, _messages, _worker_errors),
    "ring": Target(_ring, _rings, _ring_errors),
    "records": Target(_stages, _records),
    "track": Target(_track_file, _track_files, _track_errors),
    "status": Target(_status, _statuses),
}
