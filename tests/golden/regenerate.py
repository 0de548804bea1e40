"""Writes the golden bundles of format 1.0: ``python -m tests.golden.regenerate [DIRECTORY]``.

Every time, seed and id is fixed, so equal versions of zstd and Pillow give equal bytes. A bundle that was released is
never written again: it stays what readers in the field may meet. Only bundles that are missing are added, together
with their entry in ``contents.json`` (what a reader must get out of each).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image as pil

from recorder.bundle import Bundle, BundleWriter
from recorder.bundle.annotations import annotate
from recorder.bundle.check import tensors_in
from recorder.bundle.codec import form_of, signature_of
from recorder.bundle.manifest import (
    Call,
    CallSettings,
    Context,
    ExceptionInfo,
    Frame,
    Graph,
    Image,
    ImageLeftOut,
    Incident,
    Manifest,
    Model,
    Redaction,
    Track,
    TrackLevel,
    TrackSignal,
    TrackThumbnail,
    Trigger,
    Weights,
    Window,
)
from recorder.bundle.salvage import salvage
from recorder.bundle.tensors import size_in_bytes
from recorder.bundle.track import TrackTable, encode
from recorder.bundle.values import (
    DTYPES,
    MappingValue,
    OpaqueValue,
    RecordValue,
    RemovedValue,
    ScalarValue,
    SequenceValue,
    TensorValue,
    Value,
)
from recorder.sealer.thinning import thin
from recorder.trust.signatures import SigningKey, load_signing_key
from tests.bundles import environment, picture, store_array

__all__ = [
    "CONTENTS",
    "FOLDER",
    "GOLDENS",
    "GRAPHS",
    "PRIVACY",
    "SIGNED",
    "TEST_KEY",
    "THINNED",
    "THIN_BYTES",
    "TRACK",
    "contents_of",
    "write",
]

FOLDER = Path(__file__).parent
CONTENTS = FOLDER / "contents.json"
_T0_NS = 1_760_000_000_000_000_000

_SIGNED: list[type[np.floating[Any] | np.signedinteger[Any]]] = [np.float64, np.float32, np.float16, np.int16]

Parts = tuple[tuple[Frame, ...], tuple[Call, ...]]


def images(writer: BundleWriter) -> Parts:
    """Each encoding an image member can have, grey, colour, alpha, 16 bits, many channels, and broken files."""
    random = np.random.default_rng(1)
    colour = picture(random, 24, 32)
    deep = random.integers(0, 2**16, (9, 7), np.uint16)
    frames = []
    arrays = [colour, colour[:, :, 0], colour[:, :, :2], np.dstack([colour, colour[:, :, :1]]), colour[:, :, :1]]
    arrays += [deep, np.dstack([deep] * 3), np.zeros((0, 5, 3), np.uint8), random.integers(0, 255, (6, 5, 7), np.uint8)]
    for index, pixels in enumerate(arrays, 1):
        frames.append(_frame(index, images=(writer.image(index, "image", pixels),)))
    files = {name: _file(colour, name) for name in ("JPEG", "WEBP", "PNG")}
    files |= {
        "palette": _file(colour, "PNG", palette=True),
        "broken": files["JPEG"][:90],
        "foreign": b"GIF89a" + b"x" * 9,
    }
    several = tuple(writer.encoded_image(20, name.lower(), data, "path") for name, data in files.items())
    return (*frames, _frame(20, images=several)), ()


def tensors(writer: BundleWriter) -> Parts:
    """Every dtype, every encoding, NaN payloads, both zeros, and strides of all kinds."""
    random = np.random.default_rng(2)
    args: list[Value] = []
    for dtype in DTYPES:
        data = random.integers(0, 2 if dtype == "bool" else 256, size_in_bytes(dtype, (2, 3)), np.uint8).tobytes()
        args.append(_tensor(writer, data, dtype, (2, 3), (3, 1)))
    seen = picture(random, 32, 48).astype(np.float32) / np.float32(255)
    smooth = np.linspace(1, 2, 5000, dtype=np.float32)
    noise = random.integers(0, 2**32, 4500, np.uint32).view(np.float32)
    odd = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0, 0x7F800000], np.uint32).view(np.float32)
    args += [store_array(writer, each) for each in (np.moveaxis(seen, 2, 0), seen, smooth, noise, odd)]
    args += [
        store_array(writer, np.zeros((0, 4), np.int64)),
        store_array(writer, np.array(7.5)),
        _tensor(writer, np.arange(6, dtype=np.int32).tobytes(), "int32", (2, 3), (0, 1)),
        _tensor(writer, np.arange(6, dtype=np.int32).tobytes(), "int32", (2, 3), (7, 2), container="numpy"),
    ]
    return (_frame(1, calls=(1,)),), (_call(1, (1,), tuple(args), args[0]),)


def planes(writer: BundleWriter) -> Parts:
    """What became of 8-bit pictures, planes of channels: floats of each size, with and without a sign, and integers."""
    random = np.random.default_rng(6)
    shared = np.cumsum(random.integers(-3, 4, (1, 60, 70)), axis=1) + 128
    seen = (shared + np.reshape([0, 9, 20], (3, 1, 1)) + random.integers(0, 2, (3, 60, 70))).astype(np.uint8)
    args: list[Value] = [store_array(writer, (seen.astype(kind) - kind(100))) for kind in _SIGNED]
    args.append(store_array(writer, np.tile(seen, (1, 2, 1))))
    args.append(store_array(writer, np.stack([seen, seen[:, ::-1]]).astype(np.float32) / np.float32(255)))
    args.append(store_array(writer, np.repeat(seen[0], 3, axis=0).astype(np.float64)))
    return (_frame(1, calls=(1,)),), (_call(1, (1,), tuple(args), args[0]),)


def batch(writer: BundleWriter) -> Parts:
    """One call that served four frames, one of which is not in the bundle; the call within it is its child."""
    random = np.random.default_rng(3)
    stacked = store_array(writer, random.normal(0, 1, (4, 3, 8, 8)).astype(np.float32))
    answer = store_array(writer, random.normal(0, 1, (4, 5)).astype(np.float32))
    pixels = [picture(random, 16, 16) for _ in range(3)]
    pixels[2] = pixels[0]  # stored once
    frames = tuple(_frame(i, calls=(7, 8), images=(writer.image(i, "image", pixels[i - 1]),)) for i in (1, 2, 3))
    return frames, (_call(7, (1, 2, 3, 4), (stacked,), answer), _call(8, (1, 2, 3, 4), (answer,), answer, parent=7))


def exception(writer: BundleWriter) -> Parts:
    """A model that raised, with its generator's state."""
    raised = ExceptionInfo(
        type="builtins.ValueError", message="expected 3 channels, got 4", stage="model",
        traceback=("service:predict:12", "torch.nn.modules.conv:forward:548"),
    )  # fmt: skip
    state = _tensor(writer, bytes(range(256)) * 8, "uint8", (2048,), (1,))
    call = replace(
        _call(1, (1,), (_tensor(writer, bytes(64), "float32", (1, 4, 2, 2), (16, 4, 2, 1)),), None), rng=state
    )
    call = replace(call, status="raised", exception=raised, latency_seconds=0.002)
    frame = replace(_frame(1, calls=(1,)), status="raised", exception=raised, output=None)
    return (frame,), (call,)


def open_frame(writer: BundleWriter) -> Parts:
    """In flight when the process died: input there, output not."""
    image = writer.image(2, "image", picture(np.random.default_rng(4), 16, 24))
    call = replace(_call(1, (2,), (_tensor(writer, bytes(24), "float64", (3,), (1,)),), None), status="open")
    call = replace(call, latency_seconds=None)
    frame = replace(_frame(2, calls=(1,), images=(image,)), status="open", output=None, latency_seconds=None)
    return (replace(_frame(1), lost={"ring:full": 2}), frame), (call,)


def values(writer: BundleWriter) -> Parts:
    """Every kind of value, nested, and metadata of every JSON type."""
    leaf = _tensor(writer, b"\1\0\1", "bool", (3,), (1,))
    numbers = [None, True, False, 0, -(2**63), 2**64 - 1, 0.1, -0.0, 1e300, "", "Größe 面板 🚗", "a\u202eb\x1b[31m"]
    scalars = tuple(ScalarValue(value=n) for n in (*numbers, float("nan"), float("inf"), float("-inf")))
    box = RecordValue(type="service.Box", form="dataclass", fields=(("x", ScalarValue(value=1.5)), ("mask", leaf)))
    pair = RecordValue(
        type="service.Pair", form="namedtuple", fields=(("left", box), ("right", OpaqueValue(type="a.B")))
    )
    deep: Value = leaf
    for level in range(14):
        deep = SequenceValue(form="list", items=(deep,)) if level % 2 else MappingValue(items=((level, deep),))
    whole = MappingValue(items=(("scalars", SequenceValue(form="tuple", items=scalars)), (7, pair), ("deep", deep)))
    call = replace(
        _call(1, (1,), (leaf, whole), whole), kwargs=MappingValue(items=(("threshold", ScalarValue(value=0.5)),))
    )
    metadata: dict[str, Any] = {"camera": "line-3", "nested": {"list": [1, 2.5, None, True, "x"], "": {}}, "big": 2**63}
    frame = replace(_frame(1, calls=(1,)), output=whole, metadata=metadata, sensor_time="2025-10-09T08:53:20Z")
    return (frame,), (call,)


def layers(writer: BundleWriter) -> Parts:
    """A call with the digests of its layers."""
    paths = json.dumps(["features.0", "features.1", "head"]).encode()
    hashes = np.array([1, 2**63, 2**64 - 1], "<u8").tobytes()
    sketches = np.arange(3 * 61, dtype="<f4").tobytes()
    digests = {
        "names": _tensor(writer, paths, "uint8", (len(paths),), (1,), "numpy"),
        "hashes": _tensor(writer, hashes, "uint64", (3,), (1,), "numpy"),
        "sketches": _tensor(writer, sketches, "float32", (3, 61), (61, 1), "numpy"),
    }
    given = _tensor(writer, b"\0\0\x80?", "float32", (1,), (1,))
    call = replace(_call(1, (1,), (given,), given), layers=MappingValue(items=tuple(digests.items())))
    return (_frame(1, calls=(1,)),), (call,)


def state(writer: BundleWriter) -> Parts:
    """Two calls of a model that remembers: each with what it remembered before."""
    frames, calls = [], []
    for number in (1, 2):
        given = store_array(writer, np.full((1, 2), number, np.float32))
        held = {"count": np.array([number], np.int64), "memory.0": np.full((1, 3), number / 4, np.float32)}
        before = MappingValue(items=tuple((name, store_array(writer, array)) for name, array in held.items()))
        calls.append(replace(_call(number, (number,), (given,), given), state=before))
        frames.append(_frame(number, calls=(number,)))
    return tuple(frames), tuple(calls)


def graphs(writer: BundleWriter) -> Parts:
    """A packed model with a graph of each version: rows of one shape, and rows of any number."""
    frames, calls = [], []
    for number, rows in ((1, 2), (2, 5)):
        given = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        answer = store_array(writer, given.reshape(rows * 3) + np.float32(0.5))
        calls.append(_call(number, (number,), (store_array(writer, given),), answer))
        frames.append(_frame(number, calls=(number,)))
    for document in (GRAPH, OPEN_GRAPH):
        writer.add(f"models/{hashlib.sha256(document).hexdigest()}.graph.json", [document], len(document))
    return tuple(frames), tuple(calls)


def _graph(version: int, rows: Any, nodes: list[dict[str, Any]]) -> bytes:
    document = {
        "format": "vision-flight-recorder/graph", "version": version, "torch": "2.13.0", "weights": [],
        "constants": [{"dtype": "float32", "shape": [], "data": "AAAAPw=="}],
        "inputs": [{"dtype": "float32", "shape": [rows, 3]}], "args": {"tuple": [{"ref": 1}]}, "kwargs": {"dict": []},
        "nodes": nodes, "mutations": [], "output": {"ref": 1 + len(nodes)},
    }  # fmt: skip
    return json.dumps(document, separators=(",", ":")).encode()


GRAPH = _graph(
    1, 2,
    [{"op": "aten.view.default", "args": [{"ref": 1}, {"list": [6]}]},
     {"op": "aten.add.Tensor", "args": [{"ref": 2}, {"ref": 0}]}],
)  # fmt: skip
OPEN_GRAPH = _graph(
    2, {"size": [2, None]},
    [{"op": "size", "args": [{"ref": 1}, 0]},
     {"op": "int.ne", "args": [{"ref": 2}, 3]},
     {"op": "check", "args": [{"ref": 3}]},
     {"op": "int.mul", "args": [{"ref": 2}, 3]},
     {"op": "aten.view.default", "args": [{"ref": 1}, {"list": [{"ref": 5}]}]},
     {"op": "aten.add.Tensor", "args": [{"ref": 6}, {"ref": 0}]}],
)  # fmt: skip


def _with_graphs(model: Model, call: Call) -> Model:
    def known(document: bytes, form: str | None = None) -> Graph:
        digest = hashlib.sha256(document).hexdigest()
        return Graph(signature=signature_of(call), digest=digest, size_bytes=len(document), form=form)

    return replace(model, weights=None, graphs=(known(GRAPH), known(OPEN_GRAPH, form_of(call))))


def privacy(writer: BundleWriter) -> Parts:
    """An image with a box filled, one that was kept back, and a call of which only shapes and digests are left."""
    pixels = picture(np.random.default_rng(5), 24, 32)
    pixels[4:20, 8:24] = 0
    kept = replace(writer.image(1, "left", pixels), original_digest=f"hmac-sha256:{_KEY_ID}:{'c5' * 32}")
    left_out = ImageLeftOut(
        name="right", source="array", encoding="pixels", size_bytes=24 * 32 * 3, sha256=None, height=24, width=32,
        channels=3, dtype="uint8", reason="privacy", original_digest=f"hmac-sha256:{_KEY_ID}:{'d6' * 32}",
    )  # fmt: skip
    tensor = RemovedValue(
        kind="tensor", container="torch", dtype="float32", shape=(1, 3, 24, 32), size_bytes=4 * 3 * 24 * 32,
        digest=f"hmac-sha256:{_KEY_ID}:{'e7' * 32}",
    )  # fmt: skip
    answer = RecordValue(
        type="service.Answer", form="dataclass",
        fields=(("who", RemovedValue(kind="scalar")), ("face", RemovedValue(kind="object"))),
    )  # fmt: skip
    call = replace(_call(1, (1,), (tensor,), answer), kwargs=MappingValue(items=(("size", ScalarValue(value=24)),)))
    metadata: dict[str, Any] = {"camera": "line-3", "email": "p_0123456789abcdef", "faces": [[8, 4, 24, 20]]}
    frame = replace(
        _frame(1, calls=(1,), images=(kept,)), images_left_out=(left_out,), metadata=metadata,
        output=RemovedValue(kind="scalar"),
    )  # fmt: skip
    return (frame,), (call,)


_KEY_ID = "0f1e2d3c4b5a6978"
_REDACTIONS = (
    Redaction(field="image.left", level="redacted", method="fill", stage="capture", count=1, key=_KEY_ID),
    Redaction(field="image.right", level="digest-only", method="removed", stage="capture", count=1, key=_KEY_ID),
    Redaction(field="metadata.email", level="redacted", method="pseudonym", stage="capture", count=1, key=_KEY_ID),
    Redaction(
        field="model_input", level="digest-only", method="removed", stage="finished", count=1,
        derived_from=("image",), key=_KEY_ID,
    ),
)  # fmt: skip


def _file(pixels: Any, form: str, palette: bool = False) -> bytes:
    target = io.BytesIO()
    picture_ = pil.fromarray(pixels)
    (picture_.quantize(16) if palette else picture_).save(target, form)
    return target.getvalue()


def _tensor(
    writer: BundleWriter,
    data: bytes,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    container: str = "torch",
) -> TensorValue:
    return writer.tensor(
        data, container=container, dtype=dtype, shape=shape, strides=strides, alignment=32, device="cpu"
    )  # fmt: skip


def _call(
    number: int, frames: tuple[int, ...], args: tuple[Value, ...], output: Value | None, parent: int | None = None
) -> Call:
    return Call(
        id=number, model=0, context=0, frames=frames, parent=parent, status="returned",
        settings=CallSettings(training=False, grad_enabled=False, inference_mode=True, autocast={"cpu": "bfloat16"}),
        args=SequenceValue(form="tuple", items=args), kwargs=MappingValue(items=()), output=output,
        started_monotonic_ns=10**9 + number, latency_seconds=0.021,
    )  # fmt: skip


def _frame(number: int, calls: tuple[int, ...] = (), images: tuple[Image, ...] = ()) -> Frame:
    return Frame(
        id=number, stream="line-3", status="complete", time_ns=_T0_NS + number, monotonic_ns=10**9 + number, context=0,
        calls=calls, images=images, latency_seconds=0.025, output=ScalarValue(value="ok"),
    )  # fmt: skip


def track(writer: BundleWriter) -> Track:
    """Two minutes of a scene that grows dark, in rows and three kinds of intervals, with two thumbnails."""
    signals = {"latency": "seconds", "luminance": "of full scale", "confidence": "probability"}
    tables = []
    for seconds, rows in ((0, 61), (1, 121), (10, 13), (60, 3)):
        starts = [number * (seconds or 1) * 10**9 + (0 if seconds else 60 * 10**9) for number in range(rows)]
        light = [0.5 - start / 10**12 for start in starts]
        level = TrackLevel(
            stream="line-3", seconds=seconds, rows=rows, from_ns=_T0_NS + starts[0], to_ns=_T0_NS + starts[-1]
        )
        columns: dict[str, Any] = {
            "time_ns": [_T0_NS + start for start in starts],
            "monotonic_ns": starts,
        }
        if seconds:
            columns |= {"first_frame": range(rows), "frames": [seconds] * rows, "raised": [0] * (rows - 1) + [1]}
            for name, numbers in (("latency", [0.25] * rows), ("luminance", light)):
                columns |= {f"{name}.{part}": numbers for part in ("min", "mean", "max")}
                columns[f"{name}.count"] = [seconds] * rows
        else:
            columns |= {"frame": range(rows), "status": [0] * (rows - 1) + [1], "top_class": [-1] * rows}
            columns |= {"digest": [2**64 - 1 - number for number in range(rows)], "latency": [0.25] * rows}
            columns |= {"luminance": [math.nan, *light[1:]]}
        tables.append(TrackTable(level, columns))
    content = encode(tables)
    writer.add("records/0.msgpack", content, len(content))
    shown = []
    for frame in (1, 61):
        file = io.BytesIO()
        pil.new("RGB", (64, 36), (255 // frame, 0, 0)).save(file, "JPEG")
        member = f"thumbnails/{frame:06x}.jpg"
        writer.add(member, file.getvalue(), len(file.getvalue()))
        shown.append(TrackThumbnail(member=member, stream="line-3", frame=frame, time_ns=_T0_NS + frame * 10**9))
    return Track(
        member="records/0.msgpack",
        signals=tuple(TrackSignal(name=name, unit=unit) for name, unit in signals.items()),
        levels=tuple(table.level for table in tables),
        thumbnails=tuple(shown),
    )


def thinned(writer: BundleWriter) -> Parts:
    """Seven frames of noise, the fifth and sixth of one batch; too much for THIN_BYTES."""
    random = np.random.default_rng(7)
    frames, calls = [], []
    for served in ((1,), (2,), (3,), (4,), (5, 6), (7,)):
        large = store_array(writer, random.integers(0, 2**32, 4096, np.uint32).view(np.float32))
        small = store_array(writer, random.normal(0, 1, (len(served), 3)).astype(np.float32))
        calls.append(_call(served[0], served, (large,), small))
        for number in served:
            image = writer.image(number, "image", random.integers(0, 256, (30, 40, 3)).astype(np.uint8))
            frames.append(_frame(number, calls=(served[0],), images=(image,)))
    encoded = writer.encoded_image(7, "left", _file(random.integers(0, 256, (20, 20, 3)).astype(np.uint8), "PNG"))
    frames[-1] = replace(frames[-1], images=(*frames[-1].images, encoded))
    return tuple(frames), tuple(calls)


def _finish(
    writer: BundleWriter,
    path: Path,
    parts: Parts,
    history: Track | None = None,
    redactions: tuple[Redaction, ...] = (),
    max_bundle_bytes: int | None = None,
) -> None:
    trigger = Trigger(kind="manual", reason="golden", frame=1, time_ns=_T0_NS + 5, value=0.25, threshold=0.5)
    window = Window(pre_frames=16, post_frames=4, post_seconds=5.0, closed_by="frames")
    manifest = Manifest(
        created_ns=_T0_NS + 10, producer="vision-flight-recorder 0.1.0", members=(),
        incident=Incident(
            id="0123456789abcdef" * 2, stream="line-3", severity="high", opened_ns=_T0_NS + 5, window=window,
            triggers=(trigger,), host="alive", lost={"capture:opaque": 1},
        ),
        contexts=(Context(id=0, since_ns=_T0_NS, environment=environment()),),
        models=(
            Model(
                id=0, name="classifier", framework="torch", type="torch.nn.modules.container.Sequential",
                factory="service.model:build", weights=Weights(digest="ab" * 32, size_bytes=1234, stored=True),
            ),
        ),
        frames=parts[0], calls=parts[1], track=history, redactions=redactions,
    )  # fmt: skip
    if path.stem == GRAPHS:
        [model] = manifest.models
        manifest = replace(manifest, models=(_with_graphs(model, parts[1][0]),))
    writer.finish(path, manifest if max_bundle_bytes is None else thin(manifest, writer, max_bundle_bytes))


#: File name without its suffix to what fills it. "salvaged" is made of the first by damage.
GOLDENS: dict[str, Callable[[BundleWriter], Parts]] = {
    "1.0-images": images,
    "1.0-tensors": tensors,
    "1.0-planes": planes,
    "1.0-batch": batch,
    "1.0-exception": exception,
    "1.0-open-frame": open_frame,
    "1.0-values": values,
    "1.0-layers": layers,
    "1.0-state": state,
    "1.0-privacy": privacy,
    "1.0-graphs": graphs,
}
GRAPHS = "1.0-graphs"
SALVAGED = "1.0-salvaged"
#: The exception again, signed twice: by a key that is committed here for the tests alone, and by one nobody has.
SIGNED = "1.0-signed"
TEST_KEY = FOLDER / "TEST-KEY-trust-nothing-it-signs.pem"
#: An exception with its history.
TRACK = "1.0-track"
#: Kept within a size.
THINNED, THIN_BYTES = "1.0-thinned", 56_000
#: The one that says what was taken out of it.
PRIVACY = "1.0-privacy"


def write(directory: Path, name: str) -> Path:
    """Write one golden bundle and return its path."""
    path = directory / f"{name}.zst"
    if name == SALVAGED:
        whole = (
            write(directory, "1.0-batch") if not (directory / "1.0-batch.zst").exists() else directory / "1.0-batch.zst"
        )
        data = whole.read_bytes()
        salvage(data[: len(data) // 2], path)
        return path
    if name == SIGNED:
        plain = directory / "1.0-exception.zst"
        with Bundle.open(plain if plain.exists() else write(directory, "1.0-exception")) as source:
            test, lost = load_signing_key(TEST_KEY), SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
            annotate(source, path, [key.annotation(source.manifest_bytes) for key in (test, lost)])
        return path
    with BundleWriter(directory) as writer:
        history = track(writer) if name == TRACK else None
        parts = ({TRACK: exception, THINNED: thinned}.get(name) or GOLDENS[name])(writer)
        redactions = _REDACTIONS if name == PRIVACY else ()
        _finish(writer, path, parts, history, redactions, THIN_BYTES if name == THINNED else None)
    return path


def contents_of(path: Path) -> dict[str, Any]:
    """What a reader must get out of a bundle: digests of the file, its members, its pixels and its arrays."""
    with Bundle.open(path) as bundle:
        pixels = {
            f"frame {frame.id} {image.name}": _array_digest(bundle.pixels(image))
            for frame in bundle.manifest.frames
            for image in frame.images
            if image.pixels_sha256 is not None and image.encoding in ("png", "raw")
        }
        history = {
            f"{table.level.stream} {table.level.seconds}": {
                name: hashlib.sha256(repr(list(numbers)).encode()).hexdigest()
                for name, numbers in table.columns.items()
            }
            for table in bundle.track()
        }
        return {
            **({"track": history} if history else {}),
            "file": hashlib.sha256(path.read_bytes()).hexdigest(),
            "id": bundle.id,
            "complete": bundle.manifest.complete,
            "members": {
                member.path: hashlib.sha256(bundle.read(member.path)).hexdigest() for member in bundle.manifest.members
            },
            "pixels": pixels,
            "arrays": {where: _array_digest(bundle.array(tensor)) for where, tensor in tensors_in(bundle.manifest)},
        }


def _array_digest(array: np.ndarray[Any, Any]) -> str:
    """Of dtype, shape and the elements in C order: what an array means, not how it lies in memory."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode() + little.tobytes()).hexdigest()


def main() -> None:
    """Add what is missing."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    contents_path = directory / CONTENTS.name
    contents = json.loads(contents_path.read_text()) if contents_path.exists() else {}
    for name in (*GOLDENS, SALVAGED, SIGNED, TRACK, THINNED):
        if not (directory / f"{name}.zst").exists():
            contents[name] = contents_of(write(directory, name))
    contents_path.write_text(json.dumps(contents, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
