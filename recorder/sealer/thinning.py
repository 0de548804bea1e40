"""A bundle within a size: payloads far from the trigger are left out, evenly, until the file is small enough.

A frame's payload are its images and its tensors of 16 KiB or more. Metadata, answers in a few numbers, times, signals
and the track of every frame stay; so do the frame that triggered and the onset, the earliest frame a trigger names.
Frames that one batch served keep or lose their payloads together: they share the tensors.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

from recorder.bundle import BundleWriter
from recorder.bundle.limits import GROUPED_TENSOR_BYTES
from recorder.bundle.manifest import Call, Frame, Image, ImageLeftOut, Manifest, Thinning
from recorder.bundle.remains import call_without, value_without
from recorder.bundle.values import tensors_of

__all__ = ["OVER_LIMIT", "RULE", "thin"]

#: Counted in the incident's ``lost`` when even the payloads that are always kept take more than was asked for.
OVER_LIMIT = "bundle-over-limit"

#: The rule below by its name, as manifests and schemas/FORMAT.md have it.
RULE = "every-other-from-afar"


def thin(
    manifest: Manifest,
    writer: BundleWriter,
    max_bundle_bytes: int,
    annotate: Callable[[bytes], Sequence[bytes]] = lambda text: (),
) -> Manifest:
    """Return the manifest of a bundle of at most so many bytes, as far as that is possible.

    Unchanged when the bundle is small enough. Frames are dropped in the order of `_drop_order` until it is; the exact
    size of the file is measured at each step of a binary search.

    Args:
        manifest: of everything the writer holds.
        writer: knows what each member takes.
        max_bundle_bytes: the bound.
        annotate: what signs the manifest; signatures count.
    """
    if writer.measure(manifest, annotate) <= max_bundle_bytes:
        return manifest
    order = _drop_order(manifest)

    def thinned(count: int) -> Manifest:
        return _without_payloads(
            manifest, writer, {frame for group in order[:count] for frame in group}, max_bundle_bytes
        )

    counts = range(len(order) + 1)
    count = bisect.bisect_left(counts, True, key=lambda k: writer.measure(thinned(k), annotate) <= max_bundle_bytes)
    found = thinned(min(count, len(order)))
    if count > len(order):
        lost = {**found.incident.lost, OVER_LIMIT: 1}
        found = replace(found, incident=replace(found.incident, lost=lost))
    return found


def _drop_order(manifest: Manifest) -> list[list[int]]:
    """Groups of frame ids, in the order their payloads are dropped.

    By distance from the trigger, in frames: first the odd distances, from afar; then those that are twice an odd
    number, and so on. What stays is every second, fourth, eighth … frame, denser towards the trigger.
    """
    centre, kept = _fixed_points(manifest)
    distance = {frame.id: abs(place - centre) for place, frame in enumerate(manifest.frames)}
    groups = [group for group in _groups(manifest) if kept.isdisjoint(group)]

    def late(group: list[int]) -> tuple[int, int]:
        nearest = min(distance[frame] for frame in group)
        return nearest & -nearest, -nearest  # the power of two in it

    return sorted(groups, key=late)


def _fixed_points(manifest: Manifest) -> tuple[int, set[int]]:
    """The place of the frame that triggered, and the ids of frames whose payload always stays."""
    ids = [frame.id for frame in manifest.frames]
    known = set(ids)
    named = [
        number for trigger in manifest.incident.triggers if (number := trigger.frame) is not None and number in known
    ]
    if named:  # in the order of the triggers: the first opened the incident
        return ids.index(named[0]), {named[0], min(named)}
    # Of a time only, such as a signal: the last frame that had begun by then.
    begun = [place for place, frame in enumerate(manifest.frames) if frame.time_ns <= manifest.incident.opened_ns]
    place = begun[-1] if begun else 0
    return place, set(ids[place : place + 1])


def _groups(manifest: Manifest) -> list[list[int]]:
    """Frames that share a call, directly or through others, together; every frame is in one group."""
    group_of = {frame.id: [frame.id] for frame in manifest.frames}
    for call in manifest.calls:
        here = [frame for frame in call.frames if frame in group_of]
        for frame in here[1:]:
            first, other = group_of[here[0]], group_of[frame]
            if other is not first:
                first.extend(other)
                group_of.update(dict.fromkeys(other, first))
    return list({id(group): group for group in group_of.values()}.values())


def _without_payloads(manifest: Manifest, writer: BundleWriter, dropped: set[int], max_bundle_bytes: int) -> Manifest:
    """Take out what only these frames need of images and large tensors."""
    needed: set[str] = set()
    unneeded: set[str] = set()
    calls = {call.id: call for call in manifest.calls}
    for frame in manifest.frames:
        (unneeded if frame.id in dropped else needed).update(_payload(frame, calls))
    gone = frozenset(unneeded - needed)
    thinned = tuple(frame.id for frame in manifest.frames if not gone.isdisjoint(_payload(frame, calls)))
    return replace(
        manifest,
        frames=tuple(_frame(frame, gone, writer) if frame.id in dropped else frame for frame in manifest.frames),
        calls=tuple(call_without(call, gone) for call in manifest.calls),
        incident=replace(
            manifest.incident, thinning=Thinning(max_bundle_bytes=max_bundle_bytes, rule=RULE, frames=thinned)
        ),
    )


def _payload(frame: Frame, calls: dict[int, Call]) -> Iterator[str]:
    """Paths of the members with a frame's images and large tensors."""
    yield from (image.member for image in frame.images)
    values = [frame.output]
    for call in (calls[number] for number in frame.calls):
        values += [call.args, call.kwargs, call.output, call.rng, call.state]
    for value in values:
        yield from (tensor.member for _, tensor in tensors_of(value) if tensor.size_bytes >= GROUPED_TENSOR_BYTES)


def _frame(frame: Frame, gone: frozenset[str], writer: BundleWriter) -> Frame:
    left_out = tuple(_left_out(image, writer) for image in frame.images if image.member in gone)
    return replace(
        frame,
        images=tuple(image for image in frame.images if image.member not in gone),
        images_left_out=(*frame.images_left_out, *left_out),
        output=None if frame.output is None else value_without(frame.output, gone),
    )


def _left_out(image: Image, writer: BundleWriter) -> ImageLeftOut:
    """What is still known of an image: enough to recognise it."""
    if image.source in ("array", "pil") and image.pixels_sha256 is not None:
        item_bytes = {"uint8": 1, "uint16": 2}[image.dtype]
        size_bytes = prod((image.height, image.width, image.channels or 1)) * item_bytes
        encoding, digest = "pixels", image.pixels_sha256
    else:
        member = writer.members[image.member]
        encoding, size_bytes, digest = image.encoding, member.size_bytes, member.sha256
    return ImageLeftOut(
        name=image.name,
        source=image.source,
        encoding=encoding,
        size_bytes=size_bytes,
        sha256=digest,
        height=image.height,
        width=image.width,
        channels=image.channels,
        dtype=image.dtype,
    )
