"""A bundle all the same, where records of a damaged ring said what no manifest may hold.

Heads of records carry no checksum: a frame with a time below zero, a call that is its own parent. Such a part would
have the whole manifest refused; it is left out and counted instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from recorder.bundle import BundleWriter
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.manifest import Call, Frame, Manifest

__all__ = ["finish_sound"]


def finish_sound(
    writer: BundleWriter, path: Path, manifest: Manifest, annotate: Callable[[bytes], Sequence[bytes]]
) -> None:
    """Write a bundle; if its manifest is refused, without the frames and calls that are to blame.

    Raises:
        BundleInvalid: not even the rest may stand in a bundle.
    """
    try:
        writer.finish(path, manifest, annotate)
    except (BundleInvalid, RecursionError):
        writer.finish(path, _without_the_unsound(writer, manifest), annotate)


def _without_the_unsound(writer: BundleWriter, manifest: Manifest) -> Manifest:
    bare = dataclasses.replace(manifest, frames=(), calls=(), track=None)
    if manifest.track is not None and _is_sound(writer, dataclasses.replace(bare, track=manifest.track)):
        bare = dataclasses.replace(bare, track=manifest.track)
    # Alone, a part has nothing to contradict but itself; parents and calls are looked up among those that stay.
    alone = [dataclasses.replace(frame, calls=()) for frame in manifest.frames]
    kept = {frame.id for frame in alone if _is_sound(writer, dataclasses.replace(bare, frames=(frame,)))}
    calls = [call for call in manifest.calls if _is_sound(writer, dataclasses.replace(bare, calls=(call,)))]
    frames = _linked([frame for frame in manifest.frames if frame.id in kept], calls)
    gone = len(manifest.frames) + len(manifest.calls) - len(frames) - len(calls)
    lost = manifest.incident.lost
    counted = {**lost, "record-malformed": lost.get("record-malformed", 0) + gone} if gone else lost
    incident = dataclasses.replace(manifest.incident, lost=counted)
    return dataclasses.replace(bare, incident=incident, frames=tuple(frames), calls=tuple(calls))


def _is_sound(writer: BundleWriter, manifest: Manifest) -> bool:
    try:
        writer.check(manifest)
    except (BundleInvalid, RecursionError):
        return False
    return True


def _linked(frames: Sequence[Frame], calls: Sequence[Call]) -> list[Frame]:
    known = {call.id for call in calls}
    return [dataclasses.replace(frame, calls=tuple(call for call in frame.calls if call in known)) for frame in frames]
