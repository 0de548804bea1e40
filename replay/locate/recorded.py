"""The layer digests that production itself captured, as one more run to hold a replay against."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recorder.bundle.manifest import Call
from recorder.bundle.values import MappingValue, TensorValue
from replay.exchange import ReadTensor
from replay.locate.alignment import outputs_alone, part
from replay.locate.locating import Located, NotSeen, watch
from replay.locate.records import SKETCH_BUCKETS, LayerRecord, Seen, TensorDigest, Watch
from replay.session import Job, Session

__all__ = ["locate_recorded", "recorded_layers"]

#: As many as the recorder writes (recorder.layers.capture).
_MAX_LAYERS = 4096
_MAX_NAMES_BYTES = 4 * 2**20
_MAX_NAME_CHARS = 1000


def recorded_layers(call: Call, read: ReadTensor) -> Seen | None:
    """Return what was captured of a call's layers; None where nothing was, or nothing that can be understood.

    Args:
        call: of the manifest.
        read: gives a recorded tensor's bytes.

    Raises:
        BundleInvalid, BundleUnavailable: recorded bytes are not what the manifest says.
    """
    if not isinstance(call.layers, MappingValue):
        return None
    parts = dict(call.layers.items)
    names, hashes, sketches = (parts.get(name) for name in ("names", "hashes", "sketches"))
    if not (_is(names, "uint8", 1) and _is(hashes, "uint64", 1) and _is(sketches, "float32", 2)):
        return None
    assert isinstance(names, TensorValue)  # noqa: S101 - for the types, as below
    assert isinstance(hashes, TensorValue) and isinstance(sketches, TensorValue)  # noqa: S101
    if names.size_bytes > _MAX_NAMES_BYTES or hashes.shape[0] > _MAX_LAYERS:
        return None
    if sketches.shape != (hashes.shape[0], SKETCH_BUCKETS):
        return None
    paths = _paths(read(names))
    if paths is None or len(paths) != hashes.shape[0]:
        return None
    numbers = np.frombuffer(read(hashes), "<u8")
    sums = np.frombuffer(read(sketches), "<f4").reshape(sketches.shape).astype(np.float64)
    if not np.isfinite(sums).all():
        return None
    return Seen(
        records=tuple(_record(place, *each) for place, each in enumerate(zip(paths, numbers, sums, strict=True)))
    )


def locate_recorded(session: Session, job: Job, recorded: Seen) -> Located:
    """Say in which of the captured layers a replay first differs from production."""
    try:
        seen = watch(session, job, Watch(sampled=True))
    except NotSeen as error:
        return Located(job=job, reason=str(error))
    ours = Seen(records=tuple(replace(record, outputs=_bare(record)) for record in seen.records))
    return Located(job=job, parting=part(*outputs_alone(recorded, ours), outputs_only=True))


def _is(value: object, dtype: str, dimensions: int) -> bool:
    return isinstance(value, TensorValue) and value.dtype == dtype and len(value.shape) == dimensions


def _paths(data: bytes) -> list[str] | None:
    try:
        paths = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    whole = isinstance(paths, list) and all(isinstance(path, str) and len(path) <= _MAX_NAME_CHARS for path in paths)
    return paths if whole else None


def _record(place: int, path: str, number: np.uint64, sketch: NDArray[np.float64]) -> LayerRecord:
    output = TensorDigest(hash=f"{int(number):016x}", dtype="", shape=(), sketch=sketch)
    return LayerRecord(
        key=(path, "", place),
        kind="layer",
        parent=None,
        begin=2 * place,
        end=2 * place + 1,
        inputs=(),
        outputs=(output,),
    )


def _bare(record: LayerRecord) -> tuple[TensorDigest, ...]:
    """A replayed output as the recorder keeps it: hash and sketch of one tensor."""
    return tuple(replace(output, dtype="", shape=()) for output in record.outputs[:1])
