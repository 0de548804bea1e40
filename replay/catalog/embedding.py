"""A vector for an incident: what of its trigger frame tells whether two incidents are alike.

The first of these that the bundle holds:

1. ``embedding``: a list of numbers under that key of the frame's metadata, or a tensor of that name in an answer;
2. ``answer``: the frame's row of its last model call's answer, where that is one tensor of at most 2^20 bytes.

Vectors of another length or model cannot be compared; each carries its *space*, and only one space is looked at. All
are centred, projected to `DIMENSIONS` by a fixed random matrix, which keeps angles to about 1 / sqrt(DIMENSIONS)
(Johnson and Lindenstrauss 1984), and given unit length.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from recorder.bundle import Bundle
from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Frame, Manifest
from recorder.bundle.values import JsonValue, TensorValue, has_removed, tensors_of

__all__ = ["DIMENSIONS", "Vector", "embedding_of", "embedding_values", "project", "trigger_frame"]

#: 100,000 of them take 26 MB and 5 ms to look through; a cosine is off by about 0.1.
DIMENSIONS = 64

_MAX_BYTES = 2**20
_MAX_LENGTH = 2**16
_NAMES = ("embedding", "embeddings", "features")

#: Space and unit vector (DIMENSIONS), float32.
Vector = tuple[str, NDArray[np.float32]]


def trigger_frame(manifest: Manifest) -> Frame | None:
    """The frame that the first trigger names which the bundle holds."""
    by_id = {frame.id: frame for frame in manifest.frames}
    return next((by_id[each.frame] for each in manifest.incident.triggers if each.frame in by_id), None)


def embedding_values(metadata: dict[str, JsonValue]) -> list[float] | None:
    """The numbers that the service itself put down as the frame's embedding."""
    found = metadata.get("embedding")
    if not isinstance(found, list) or not 1 < len(found) <= _MAX_LENGTH:
        return None
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in found):
        return None
    try:
        return [float(each) for each in found if isinstance(each, int | float)]
    except OverflowError:
        return None


def embedding_of(bundle: Bundle) -> Vector | None:
    """The vector of an incident; reads at most one member beyond the manifest. None where there is nothing to take."""
    frame = trigger_frame(bundle.manifest)
    if frame is None:
        return None
    numbers = embedding_values(frame.metadata)
    if numbers is not None:
        return project(f"metadata:{len(numbers)}", np.asarray(numbers))
    by_id = {call.id: call for call in bundle.manifest.calls}
    calls = [by_id[each] for each in frame.calls if each in by_id and by_id[each].parent is None]
    if not calls or calls[-1].output is None or has_removed(calls[-1].output):
        return None
    call = calls[-1]
    assert call.output is not None  # noqa: S101 - just seen
    tensors = [(path, each) for path, each in tensors_of(call.output) if "float" in each.dtype]
    named = [each for path, each in tensors if any(name in path for name in _NAMES)]
    chosen = named[0] if named else tensors[0][1] if len(tensors) == 1 else None
    if chosen is None or not 0 < chosen.size_bytes <= _MAX_BYTES:
        return None
    row = call.frames.index(frame.id) if len(call.frames) > 1 and frame.id in call.frames else 0
    values = _row(bundle, chosen, row)
    model = next((each for each in bundle.manifest.models if each.id == call.model), None)
    kind = hashlib.sha256(f"{model.type if model else ''}:{'named' if named else 'answer'}".encode()).hexdigest()[:12]
    return None if values is None else project(f"{kind}:{values.size}", values)


def _row(bundle: Bundle, tensor: TensorValue, row: int) -> NDArray[np.float64] | None:
    try:
        array = np.asarray(bundle.array(tensor), np.float64)
    except (BundleError, ValueError, TypeError):
        return None
    if array.ndim > 1 and row < array.shape[0]:
        array = array[row]
    return array.ravel() if 1 < array.size <= _MAX_LENGTH else None


def project(space: str, values: NDArray[np.float64]) -> Vector | None:
    """Centre, project and normalise; None for what has no direction: not finite, or all the same."""
    if not np.all(np.isfinite(values)):
        return None
    with np.errstate(all="ignore"):
        centred = values - values.mean()
        scale = float(np.max(np.abs(centred), initial=0.0))
        projected = (centred / scale) @ _matrix(len(values)) if scale > 0 else np.zeros(DIMENSIONS)
        length = float(np.linalg.norm(projected))
    return (space, (projected / length).astype(np.float32)) if np.isfinite(length) and length > 0 else None


@lru_cache(maxsize=8)
def _matrix(length: int) -> NDArray[np.float64]:
    """The same on every machine: numpy promises the stream of PCG64, and whole numbers are drawn from it."""
    signs = np.random.Generator(np.random.PCG64(length)).integers(0, 2, (length, DIMENSIONS), dtype=np.int8)
    matrix: NDArray[np.float64] = (signs * 2.0 - 1.0) / np.sqrt(DIMENSIONS)
    return matrix
