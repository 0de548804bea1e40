"""What a manifest can still say once members are gone: structure stays, lost parts are dropped and counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import cast

from recorder.bundle.custody import descended
from recorder.bundle.manifest import Call, Frame, Manifest
from recorder.bundle.paths import folder_of
from recorder.bundle.values import (
    MappingValue,
    OpaqueValue,
    SequenceValue,
    TensorValue,
    Value,
    map_tensors,
    tensors_of,
)

__all__ = ["IMAGE", "MODEL", "RECORD", "TENSOR", "THUMBNAIL", "call_without", "remains", "value_without"]

IMAGE, TENSOR, THUMBNAIL = "salvage:image", "salvage:tensor", "salvage:thumbnail"
MODEL, RECORD = "salvage:model", "salvage:record"

#: What stands where a tensor was: "opaque" is the word for an object whose bytes are not there.
_LOST_TENSOR = {"torch": OpaqueValue(type="torch.Tensor"), "numpy": OpaqueValue(type="numpy.ndarray")}
_LOST_OTHER = OpaqueValue(type="lost")


def remains(manifest: Manifest, bundle_id: str, gone: frozenset[str]) -> tuple[Manifest, Counter[str]]:
    """Return the manifest without the members that are gone, marked incomplete, and what was lost by reason.

    Args:
        manifest: of the damaged bundle.
        bundle_id: the damaged bundle's.
        gone: paths of members.
    """
    lost = Counter[str]()
    lost[MODEL] = sum(folder_of(path) == "models" for path in gone)
    lost[RECORD] = sum(folder_of(path) == "records" for path in gone)
    by_frame: dict[int, Counter[str]] = {}
    calls = []
    for call in manifest.calls:
        count = sum(tensor.member in gone for value in _values_of(call) for _, tensor in tensors_of(value))
        lost[TENSOR] += count
        for frame_id in call.frames:
            by_frame.setdefault(frame_id, Counter())[TENSOR] += count
        calls.append(call_without(call, gone) if count else call)
    frames = []
    for frame in manifest.frames:
        remaining, own = _frame(frame, gone, by_frame.get(frame.id, Counter()))
        lost += own
        frames.append(remaining)
    track = manifest.track
    if track is not None and track.member in gone:
        track = None
    elif track is not None:
        kept = tuple(thumbnail for thumbnail in track.thumbnails if thumbnail.member not in gone)
        lost[THUMBNAIL] += len(track.thumbnails) - len(kept)
        track = replace(track, thumbnails=kept)
    lost = +lost  # without the zeros
    return (
        replace(
            descended(manifest, bundle_id, "recover"),
            incident=replace(manifest.incident, lost=_sum(manifest.incident.lost, lost)),
            frames=tuple(frames),
            calls=tuple(calls),
            members=(),
            track=track,
            complete=False,
        ),
        lost,
    )


def _values_of(call: Call) -> tuple[Value | None, ...]:
    return call.args, call.kwargs, call.output, call.rng, call.state, call.layers


def call_without(call: Call, gone: frozenset[str]) -> Call:
    """Put opaque values in place of a call's tensors whose members are gone."""
    return replace(
        call,
        args=cast(SequenceValue, value_without(call.args, gone)),
        kwargs=cast(MappingValue, value_without(call.kwargs, gone)),
        output=None if call.output is None else value_without(call.output, gone),
        rng=None if call.rng is None else value_without(call.rng, gone),
        state=None if call.state is None else cast(MappingValue, value_without(call.state, gone)),
        layers=None if call.layers is None else value_without(call.layers, gone),
    )


def _frame(frame: Frame, gone: frozenset[str], of_calls: Counter[str]) -> tuple[Frame, Counter[str]]:
    """The frame that remains, and what it lost itself, its calls not counted."""
    own = Counter[str]()
    images = []
    for image in frame.images:
        if image.member in gone:
            own[IMAGE] += 1
        elif image.thumbnail in gone:
            own[THUMBNAIL] += 1
            images.append(replace(image, thumbnail=None))
        else:
            images.append(image)
    own[TENSOR] += sum(tensor.member in gone for _, tensor in tensors_of(frame.output))
    every = +(own + of_calls)
    if not every:
        return frame, own
    output = None if frame.output is None else value_without(frame.output, gone)
    return replace(frame, images=tuple(images), output=output, lost=_sum(frame.lost, every)), own


def value_without(value: Value, gone: frozenset[str]) -> Value:
    """Put an opaque value in place of every tensor whose member is gone."""

    def rest(tensor: TensorValue) -> Value:
        return _LOST_TENSOR.get(tensor.container, _LOST_OTHER) if tensor.member in gone else tensor

    return map_tensors(value, rest)


def _sum(before: dict[str, int], more: Counter[str]) -> dict[str, int]:
    return {**before, **{reason: before.get(reason, 0) + count for reason, count in more.items()}}
