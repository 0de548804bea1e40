"""A new bundle from an old one: members are kept, dropped or replaced, and the new one names the old as its parent.

What redacts, packs, minimises, thins or erases says how the manifest changes; which members then remain, and that
nothing of a dropped one stays behind in a member it shared, is decided here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast

from recorder.bundle.check import paths_named, tensors_in
from recorder.bundle.custody import descended
from recorder.bundle.manifest import FORMAT_MAJOR, FORMAT_MINOR, FormatVersion, Manifest, Member
from recorder.bundle.paths import folder_of
from recorder.bundle.reader import Bundle
from recorder.bundle.values import MappingValue, SequenceValue, TensorValue, Value, map_tensors
from recorder.bundle.writer import BundleWriter

__all__ = ["Transform", "map_manifest_tensors", "rewrite", "subset"]

#: From the old manifest to the new one. New pixels and tensors are stored with the writer; it may read the source.
Transform = Callable[[Manifest, BundleWriter], Manifest]


def rewrite(
    source: Bundle,
    out: str | os.PathLike[str],
    *,
    operation: str,
    frames: Collection[int] | None = None,
    transform: Transform | None = None,
) -> str:
    """Write a bundle made from another, durable and complete or not at all.

    Images, thumbnails, tensors and the track that the new manifest names are kept, as are models it names by digest;
    all others are left out. A member that several tensors share and that holds anything besides those still named is
    not kept: its remaining tensors are stored anew. The chain of custody goes on (`recorder.bundle.custody`), times
    are the source's: the same source and transform give the same bytes. Signatures are not carried over. Memory stays
    within a few times the largest member.

    Args:
        source: the old bundle; it is only read.
        out: the new file; replaced if it exists.
        operation: what is being done, one word: "redact", "pack", "minimize", "thin", "erase".
        frames: ids of the frames to keep, with the calls that served them (see `subset`); None: all.
        transform: changes the manifest, whose ``members`` and ``parent`` are filled in afterwards. A member it
            adds (`BundleWriter.add`) takes the place of one of the same path.

    Returns:
        The new bundle's id.

    Raises:
        ValueError: one of ``frames`` is not in the bundle.
        BundleInvalid: the source is damaged, or the new manifest is not one a reader would accept.
        BundleUnavailable: the source could not be read.
        BundleError: the chain of custody is too long.
        OSError: the new bundle cannot be written; nothing is left behind.
    """
    path = Path(out)
    members = {member.path: member for member in source.manifest.members}
    manifest = source.manifest if frames is None else subset(source.manifest, frames)
    with BundleWriter(path.parent, taken=members) as writer:
        if transform is not None:
            manifest = transform(manifest, writer)
        manifest = _without_shared_remains(source, manifest, writer)
        for member in _kept(members.values(), manifest, writer):
            writer.add(member.path, source.stream(member.path), member.size_bytes)
        parented = replace(manifest, parent=source.manifest.parent, ancestors=source.manifest.ancestors)
        version = FormatVersion(major=FORMAT_MAJOR, minor=FORMAT_MINOR)
        return writer.finish(path, replace(descended(parented, source.id, operation), format_version=version))


def subset(manifest: Manifest, frames: Collection[int]) -> Manifest:
    """Return a manifest of some of its frames, with the calls that served any of them whole, other frames' items too.

    Contexts and models that nothing refers to any more go. Triggers stay, also those of frames that are gone.

    Raises:
        ValueError: a frame is not there.
    """
    wanted = frozenset(frames)
    if missing := wanted.difference(frame.id for frame in manifest.frames):
        raise ValueError(f"there is no frame {min(missing)} in this bundle")
    kept = tuple(frame for frame in manifest.frames if frame.id in wanted)
    named = {number for frame in kept for number in frame.calls}
    calls = tuple(call for call in manifest.calls if call.id in named or not wanted.isdisjoint(call.frames))
    contexts = {frame.context for frame in kept} | {call.context for call in calls}
    models = {call.model for call in calls}
    return replace(
        manifest,
        frames=kept,
        calls=calls,
        contexts=tuple(context for context in manifest.contexts if context.id in contexts),
        models=tuple(model for model in manifest.models if model.id in models),
    )


def map_manifest_tensors(manifest: Manifest, change: Callable[[TensorValue], Value]) -> Manifest:
    """Return a manifest with every tensor of its calls and answers replaced by what ``change`` makes of it.

    Where a call has its generator's state, that is one of them.
    """

    def mapped(value: Value | None) -> Value | None:
        return None if value is None else map_tensors(value, change)

    return replace(
        manifest,
        frames=tuple(replace(frame, output=mapped(frame.output)) for frame in manifest.frames),
        calls=tuple(
            replace(
                call,
                args=cast(SequenceValue, mapped(call.args)),
                kwargs=cast(MappingValue, mapped(call.kwargs)),
                output=mapped(call.output),
                rng=mapped(call.rng),
                state=cast(MappingValue | None, mapped(call.state)),
            )
            for call in manifest.calls
        ),
    )


def _without_shared_remains(source: Bundle, manifest: Manifest, writer: BundleWriter) -> Manifest:
    """Store those tensors anew whose member holds more than the tensors that are still named."""
    sizes = {member.path: member.size_bytes for member in source.manifest.members}
    by_member: dict[str, dict[tuple[int, int], None]] = {}
    for _, tensor in tensors_in(manifest):
        if tensor.encoding == "raw" and not writer.holds(tensor.member):
            by_member.setdefault(tensor.member, {})[tensor.offset, tensor.size_bytes] = None
    shared = {path for path, places in by_member.items() if sum(size for _, size in places) != sizes[path]}
    if not shared:
        return manifest

    def stored(tensor: TensorValue) -> Value:
        if tensor.member not in shared:
            return tensor
        return writer.tensor_like(source.tensor_bytes(tensor), tensor)

    return map_manifest_tensors(manifest, stored)


def _kept(members: Iterable[Member], manifest: Manifest, writer: BundleWriter) -> list[Member]:
    """The source's members that the new manifest still names, in the source's order."""
    named = paths_named(manifest)
    digests = {graph.digest for model in manifest.models for graph in model.graphs}
    digests |= {model.weights.digest for model in manifest.models if model.weights is not None}

    def is_named(path: str) -> bool:
        of_model = folder_of(path) == "models" and path.partition("/")[2].partition(".")[0] in digests
        return of_model or path in named

    return [member for member in members if is_named(member.path) and not writer.holds(member.path)]
