"""What a schema cannot say of a manifest: references lead somewhere, sizes agree, nothing is named twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.limits import (
    MAX_DIMENSIONS,
    MAX_IMAGE_PIXELS,
    MAX_MEMBER_BYTES,
    MAX_TENSOR_BYTES,
    MAX_TRACK_BYTES,
)
from recorder.bundle.manifest import Call, Frame, Image, Manifest, Member, Track
from recorder.bundle.paths import folder_of, is_member_path
from recorder.bundle.values import (
    ITEM_SIZE_BYTES,
    PLANES,
    REMOVED_VALUES,
    MappingValue,
    RecordValue,
    RemovedValue,
    SequenceValue,
    TensorValue,
    Value,
    has_removed,
    size_in_bytes,
    tensors_of,
)

__all__ = ["check_manifest", "features_of", "paths_named", "tensors_in"]

_REMEDY = "do not trust this bundle; fetch it again from where it was sealed"

_IMAGE_EXTENSIONS = {"png": (".png",), "jpeg": (".jpg",), "webp": (".webp",), "raw": (".bin",)}
_PIXEL_BYTES = {"uint8": 1, "uint16": 2}


def tensors_in(manifest: Manifest) -> Iterator[tuple[str, TensorValue]]:
    """Yield ``(where, tensor)`` for every tensor the manifest describes."""
    for call in manifest.calls:
        parts: dict[str, Value | None] = {
            "args": call.args,
            "kwargs": call.kwargs,
            "state": call.state,
            "output": call.output,
            "rng": call.rng,
            "layers": call.layers,
        }
        for part, value in parts.items():
            for path, tensor in tensors_of(value):
                yield f"call {call.id} {part}{path}", tensor
    for frame in manifest.frames:
        for path, tensor in tensors_of(frame.output):
            yield f"frame {frame.id} output{path}", tensor


def paths_named(manifest: Manifest) -> set[str]:
    """Return the paths of all members that images, tensors and the track refer to."""
    named = {tensor.member for _, tensor in tensors_in(manifest)}
    for frame in manifest.frames:
        for image in frame.images:
            named.add(image.member)
            if image.thumbnail is not None:
                named.add(image.thumbnail)
    if manifest.track is not None:
        named |= {manifest.track.member, *(thumbnail.member for thumbnail in manifest.track.thumbnails)}
    return named


def features_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the features that a reader must know to understand the manifest, those it lists already first."""
    needed = [REMOVED_VALUES] if any(has_removed(value) for _, value in _values(manifest)) else []
    needed += [PLANES] if any(tensor.encoding == PLANES for _, tensor in tensors_in(manifest)) else []
    return tuple(dict.fromkeys([*manifest.required_features, *needed]))


def check_manifest(manifest: Manifest) -> None:
    """Check everything within a manifest that needs no byte of a member.

    Raises:
        BundleInvalid: names the first contradiction.
    """
    members = _members(manifest.members)
    contexts = _ids("context", (context.id for context in manifest.contexts))
    models = _ids("model", (model.id for model in manifest.models))
    calls = _ids("call", (call.id for call in manifest.calls))
    _ids("frame", (frame.id for frame in manifest.frames))
    if manifest.incident.thinning is not None:
        thinned = _ids("thinned frame", manifest.incident.thinning.frames)
        if not thinned <= {frame.id for frame in manifest.frames}:
            raise BundleInvalid(f"a frame that is not in the bundle is said to be thinned; {_REMEDY}")
    for call in manifest.calls:
        _check_call(call, contexts, models)
    for frame in manifest.frames:
        _check_frame(frame, contexts, calls, members)
    places: dict[str, set[tuple[int, int, str, int, str]]] = {}
    for where, tensor in tensors_in(manifest):
        _check_tensor(where, tensor, members)
        place = (tensor.offset, tensor.size_bytes, tensor.encoding, ITEM_SIZE_BYTES[tensor.dtype], tensor.sha256)
        places.setdefault(tensor.member, set()).add(place)
    for path, of_member in places.items():
        _check_apart(path, of_member)
    for where, value in _values(manifest):
        _check_parts(where, value)
    missing = set(features_of(manifest)) - set(manifest.required_features)
    if missing:
        raise BundleInvalid(f"the manifest does not say that it requires {missing.pop()!r}; {_REMEDY}")
    if manifest.track is not None:
        _check_track(manifest.track, members)


def _members(listed: tuple[Member, ...]) -> dict[str, Member]:
    members: dict[str, Member] = {}
    first = 2  # after the header and the manifest
    for member in listed:
        if not is_member_path(member.path):
            raise BundleInvalid(f"member {member.path!r} has a path that is not allowed; {_REMEDY}")
        if member.path in members:
            raise BundleInvalid(f"member {member.path} is listed twice; {_REMEDY}")
        if member.first_frame != first or member.frame_count < 1 or not 0 <= member.size_bytes <= MAX_MEMBER_BYTES:
            raise BundleInvalid(f"member {member.path} does not stand where it should; {_REMEDY}")
        first += member.frame_count
        members[member.path] = member
    return members


def _ids(kind: str, ids: Iterable[int]) -> set[int]:
    """The ids as a set; they must ascend, so none stands twice."""
    seen: set[int] = set()
    last = -1
    for number in ids:
        if number <= last:
            raise BundleInvalid(f"{kind} {number} stands twice or out of order; {_REMEDY}")
        seen.add(number)
        last = number
    return seen


def _check_call(call: Call, contexts: set[int], models: set[int]) -> None:
    if call.model not in models or call.context not in contexts:
        raise BundleInvalid(f"call {call.id} refers to a model or context that is not in the bundle; {_REMEDY}")
    if call.parent is not None and call.parent >= call.id:
        raise BundleInvalid(f"call {call.id} claims a parent that began after it; {_REMEDY}")
    if len(set(call.frames)) != len(call.frames):
        raise BundleInvalid(f"call {call.id} names a frame twice; {_REMEDY}")


def _check_frame(frame: Frame, contexts: set[int], calls: set[int], members: dict[str, Member]) -> None:
    if frame.context not in contexts or not calls.issuperset(frame.calls):
        raise BundleInvalid(f"frame {frame.id} refers to a context or call that is not in the bundle; {_REMEDY}")
    if len(set(frame.calls)) != len(frame.calls):
        raise BundleInvalid(f"frame {frame.id} names a call twice; {_REMEDY}")
    names = {image.name for image in frame.images}
    if len(names) != len(frame.images):
        raise BundleInvalid(f"frame {frame.id} has two images of one name; {_REMEDY}")
    for image in frame.images:
        _check_image(f"image {image.name!r} of frame {frame.id}", image, members)


def _check_image(where: str, image: Image, members: dict[str, Member]) -> None:
    member = members.get(image.member)
    if (
        member is None
        or folder_of(image.member) != "images"
        or not image.member.endswith(_IMAGE_EXTENSIONS.get(image.encoding, ()))
    ):
        raise BundleInvalid(f"{where} refers to a member that is not in the bundle; {_REMEDY}")
    if image.thumbnail is not None and (image.thumbnail not in members or folder_of(image.thumbnail) != "thumbnails"):
        raise BundleInvalid(f"{where} refers to a thumbnail that is not in the bundle; {_REMEDY}")
    if image.dtype not in _PIXEL_BYTES or min(image.height, image.width, image.channels) < 0:
        raise BundleInvalid(f"{where} has a dtype or size that is not allowed; {_REMEDY}")
    if image.height * image.width > MAX_IMAGE_PIXELS:
        raise BundleInvalid(f"{where} has more than {MAX_IMAGE_PIXELS} pixels; do not open this bundle")
    size_bytes = image.height * image.width * (image.channels or 1) * _PIXEL_BYTES[image.dtype]
    if image.pixels_sha256 is not None:
        if image.encoding == "raw" and size_bytes != member.size_bytes:
            raise BundleInvalid(f"{where} needs {size_bytes} bytes and its member has others; {_REMEDY}")
        if image.encoding != "raw" and not (size_bytes and image.channels <= 4):
            raise BundleInvalid(f"{where} has a size or channels its encoding cannot have; {_REMEDY}")


def _check_track(track: Track, members: dict[str, Member]) -> None:
    member = members.get(track.member)
    if member is None or folder_of(track.member) != "records":
        raise BundleInvalid(f"the track refers to a member that is not in the bundle; {_REMEDY}")
    if member.size_bytes > MAX_TRACK_BYTES:
        raise BundleInvalid(f"the track takes more than {MAX_TRACK_BYTES} bytes; do not open this bundle")
    for thumbnail in track.thumbnails:
        if thumbnail.member not in members or folder_of(thumbnail.member) != "thumbnails":
            raise BundleInvalid(f"the track refers to a thumbnail that is not in the bundle; {_REMEDY}")
    names = [signal.name for signal in track.signals]
    tables = [(level.stream, level.seconds) for level in track.levels]
    if len(set(names)) != len(names) or len(set(tables)) != len(tables):
        raise BundleInvalid(f"the track names a signal or a level twice; {_REMEDY}")


def _check_tensor(where: str, tensor: TensorValue, members: dict[str, Member]) -> None:
    if tensor.dtype not in ITEM_SIZE_BYTES or len(tensor.shape) != len(tensor.strides):
        raise BundleInvalid(f"the tensor at {where} has a dtype or strides that are not allowed; {_REMEDY}")
    if len(tensor.shape) > MAX_DIMENSIONS or min(tensor.shape, default=0) < 0:
        raise BundleInvalid(f"the tensor at {where} has a shape that is not allowed; {_REMEDY}")
    size_bytes = size_in_bytes(tensor.dtype, tensor.shape)
    if size_bytes != tensor.size_bytes or size_bytes > MAX_TENSOR_BYTES:
        raise BundleInvalid(f"the tensor at {where} states another size than its shape needs; {_REMEDY}")
    member = members.get(tensor.member)
    if member is None or folder_of(tensor.member) != "tensors":
        raise BundleInvalid(f"the tensor at {where} refers to a member that is not in the bundle; {_REMEDY}")
    if tensor.encoding == "raw":
        fits = 0 <= tensor.offset <= member.size_bytes - size_bytes
    elif tensor.encoding == "shuffle":
        fits = tensor.offset == 0 and member.size_bytes == size_bytes
    else:
        fits = (
            tensor.encoding in ("table", "planes")
            and tensor.offset == 0
            and member.size_bytes >= _fewest_table_bytes(tensor)
        )
    if not fits:
        raise BundleInvalid(f"the tensor at {where} does not lie within its member; {_REMEDY}")


def _check_apart(path: str, places: set[tuple[int, int, str, int, str]]) -> None:
    """Tensors of one member coincide or lie apart: else a small file could ask for its bytes to be read forever."""
    end = 0
    for offset, size_bytes, *_ in sorted(places):
        if size_bytes and offset < end:
            raise BundleInvalid(f"two tensors of {path} overlap; {_REMEDY}")
        end = max(end, offset + size_bytes)


def _fewest_table_bytes(tensor: TensorValue) -> int:
    """Header and one code for every element; the decoder checks the rest."""
    return 8 + tensor.size_bytes // ITEM_SIZE_BYTES[tensor.dtype]


def _values(manifest: Manifest) -> Iterator[tuple[str, Value | None]]:
    for call in manifest.calls:
        for value in (call.args, call.kwargs, call.state, call.output, call.rng, call.layers):
            yield f"call {call.id}", value
    for frame in manifest.frames:
        yield f"frame {frame.id}", frame.output


def _check_parts(where: str, value: Value | None) -> None:
    """No dictionary or record within a value has a key twice: what it means would depend on the reader.

    What was removed contradicts itself nowhere: somebody may want to know how much it was.
    """
    match value:
        case SequenceValue(items=items):
            for item in items:
                _check_parts(where, item)
        case MappingValue(items=pairs) | RecordValue(fields=pairs):
            if len({key for key, _ in pairs}) != len(pairs):
                raise BundleInvalid(f"{where} has a dictionary with a key twice; {_REMEDY}")
            for _, item in pairs:
                _check_parts(where, item)
        case RemovedValue(kind="tensor"):
            if value.dtype not in ITEM_SIZE_BYTES or size_in_bytes(value.dtype, value.shape) != value.size_bytes:
                raise BundleInvalid(f"{where} has a removed tensor that states another size than its shape; {_REMEDY}")
