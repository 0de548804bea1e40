"""A finished bundle without what a privacy policy keeps back: what the sealer does to a new one, done to an old one.

Everything that was made from a redacted field goes with it, and the history's thumbnails go with the images. What is
left of a removed value is its form and, where there is a privacy key, a keyed digest; pieces of metadata that were
removed are cut out of the texts that quote them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from recorder.bundle import BundleWriter
from recorder.bundle.manifest import (
    Call,
    ExceptionInfo,
    Frame,
    Image,
    ImageLeftOut,
    Manifest,
    Redaction,
    Track,
    Trigger,
)
from recorder.bundle.reader import Bundle
from recorder.bundle.rewrite import rewrite
from recorder.bundle.track import TrackTable, encode
from recorder.bundle.values import JsonValue, MappingValue, SequenceValue, TensorValue, Value, has_removed
from recorder.privacy import Level, PrivacyKey, PrivacyPolicy
from recorder.privacy.redaction import ImageFunction
from recorder.privacy.scrub import REMOVED
from recorder.privacy.values import without_content
from recorder.sealer.redacting import Redacting, image_field
from replay.quotations import texts_of, unquoted

__all__ = ["Redacted", "redact_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redacted:
    """What became of a bundle."""

    id: str  #: of the new one
    redactions: tuple[Redaction, ...]  #: what was done now, not what had been done before
    calls: int  #: outermost ones, which a replay would run
    calls_replayable: int  #: those that still have all their arguments


def redact_bundle(
    source: Bundle,
    out: str | os.PathLike[str],
    policy: PrivacyPolicy,
    key: PrivacyKey | None = None,
    functions: Mapping[str, ImageFunction] | None = None,
    *,
    operation: str = "redact",
    frames: Collection[int] | None = None,
) -> Redacted:
    """Write a bundle that holds what a policy leaves of another.

    A track at level "redacted" keeps its signals and loses its thumbnails and the digests of its images.

    Args:
        source: the old bundle; it is only read.
        out: the new file; replaced if it exists.
        policy: what is kept back.
        key: for pseudonyms and digests; None: there are none.
        functions: redacting functions by "package.module:function", which the user named.
        operation: as in the chain of custody.
        frames: ids of the frames to keep; None: all.

    Raises:
        as `recorder.bundle.rewrite.rewrite`.
    """
    work = _Work(source, policy, key, functions)
    bundle_id = rewrite(source, out, operation=operation, frames=frames, transform=work.transform)
    return Redacted(id=bundle_id, redactions=work.done, calls=work.calls, calls_replayable=work.calls_replayable)


class _Work:
    """One bundle's redaction."""

    def __init__(
        self,
        source: Bundle,
        policy: PrivacyPolicy,
        key: PrivacyKey | None,
        functions: Mapping[str, ImageFunction] | None,
    ) -> None:
        self._source = source
        self._policy = policy
        self._key = key
        self._redacting = Redacting(policy, key, functions)
        self._noted: Counter[tuple[str, Level, str]] = Counter()
        self._quotes: dict[str, str] = {}  #: texts that were removed from metadata, and what stands there now
        self.done: tuple[Redaction, ...] = ()
        self.calls = self.calls_replayable = 0

    def transform(self, manifest: Manifest, writer: BundleWriter) -> Manifest:
        """Return the manifest of what is left; see `recorder.bundle.rewrite.Transform`."""
        frames = tuple(self._frame(frame, writer) for frame in manifest.frames)
        calls = tuple(self._call(call) for call in manifest.calls)
        incident = self._redacting.incident(manifest.incident)
        incident = replace(
            incident,
            stream=self._stream(incident.stream),
            triggers=tuple(self._trigger(trigger) for trigger in incident.triggers),
        )
        frames = tuple(
            replace(frame, stream=self._stream(frame.stream), exception=self._exception(frame.exception))
            for frame in frames
        )
        calls = tuple(replace(call, exception=self._exception(call.exception)) for call in calls)
        track = self._track(manifest.track, writer)
        outermost = [call for call in calls if call.parent is None]
        self.calls = len(outermost)
        self.calls_replayable = sum(
            not any(map(has_removed, (call.args, call.kwargs, call.state))) for call in outermost
        )
        self.done = self._account()
        return replace(
            manifest,
            frames=frames,
            calls=calls,
            incident=incident,
            track=track,
            redactions=(*manifest.redactions, *self.done),
        )

    def _frame(self, frame: Frame, writer: BundleWriter) -> Frame:
        images: list[Image] = []
        left_out: list[ImageLeftOut] = [self._redacting.left_out(image) for image in frame.images_left_out]
        for image in frame.images:
            stored = self._image(frame, image, writer)
            if isinstance(stored, Image):
                images.append(stored)
            else:
                left_out.append(stored)
        changed = self._redacting.frame(frame)
        self._remember(frame.metadata, changed.metadata)
        return replace(
            changed,
            images=tuple(images),
            images_left_out=tuple(left_out),
            output=self._value("output", changed.output),
        )

    def _image(self, frame: Frame, image: Image, writer: BundleWriter) -> Image | ImageLeftOut:
        as_given = image.source in ("array", "pil")
        strips = self._policy.strip_location and not as_given
        if self._policy.level_of(image_field(image.name)) is Level.FULL and not strips:
            return self._without_thumbnail(image)
        entry: dict[str, Any] = {
            "name": image.name,
            "source": image.source,
            "encoding": "pixels" if as_given else image.encoding,
            "height": image.height,
            "width": image.width,
            "channels": image.channels,
            "dtype": image.dtype,
        }
        data = self._source.pixels(image).tobytes() if as_given else self._source.read(image.member)
        stored = self._redacting.image(writer, frame.id, entry, data, frame.metadata)
        # What was redacted before has the digest of what was recorded, which says more than that of its changed form.
        return replace(stored, original_digest=image.original_digest or stored.original_digest)

    def _without_thumbnail(self, image: Image) -> Image:
        level = self._policy.level_of("thumbnails")
        if image.thumbnail is None or level is Level.FULL:
            return image
        self._note("thumbnails", level, "removed")
        return replace(image, thumbnail=None)

    def _call(self, call: Call) -> Call:
        return replace(
            self._redacting.call(call),
            args=cast(SequenceValue, self._value("model_input", call.args)),
            kwargs=cast(MappingValue, self._value("model_input", call.kwargs)),
            state=cast(MappingValue | None, self._value("model_input", call.state)),
            output=self._value("model_output", call.output),
            layers=call.layers if self._redacting.keeps_layers else None,
        )

    def _value(self, field: str, value: Value | None) -> Value | None:
        level = self._policy.level_of(field)
        if level is Level.FULL or value is None or value == MappingValue(items=()):
            return value
        self._note(field, level, "removed")
        return without_content(value, self._digest, keep_keys=True)

    def _digest(self, tensor: TensorValue) -> str | None:
        return self._key.stated(self._source.tensor_bytes(tensor)) if self._key is not None else None

    def _track(self, track: Track | None, writer: BundleWriter) -> Track | None:
        if track is None:
            return None
        level = self._policy.level_of("track")
        if level is Level.DIGEST_ONLY:
            self._note("track", level, "removed")
            return None
        shown = track.thumbnails
        strictest = max(level, self._policy.level_of("thumbnails"), key=list(Level).index)
        if shown and strictest is not Level.FULL:
            self._note("thumbnails", strictest, "removed", len(shown))
            shown = ()
        levels = tuple(replace(each, stream=self._stream(each.stream)) for each in track.levels)
        renamed = levels != track.levels
        if level is Level.FULL and not renamed:
            return replace(track, thumbnails=shown)
        tables = []
        for table, new in zip(self._source.track(), levels, strict=True):
            columns = dict(table.columns)
            if level is not Level.FULL and "digest" in columns:
                columns["digest"] = [0] * table.level.rows  # unkeyed: it would confirm a guess at the image
                self._note("track", level, "digest")
            tables.append(TrackTable(new, columns))
        content = encode(tables)
        writer.add(track.member, content, len(content))
        renamed_thumbnails = tuple(replace(each, stream=self._stream(each.stream)) for each in shown)
        return replace(track, levels=levels, thumbnails=renamed_thumbnails)

    def _remember(self, before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> None:
        """Note which texts are gone: a stream's name is one of them, and messages quote them."""
        for key, value in before.items():
            replaced = after.get(key)
            if replaced == value:
                continue
            kept = set(texts_of(replaced))
            whole = replaced if isinstance(replaced, str) else REMOVED
            self._quotes |= {text: whole for text in texts_of(value) if text and text not in kept}

    def _stream(self, stream: str) -> str:
        """A stream's name is a piece of metadata, however short."""
        return self._quotes[stream] if stream in self._quotes else self._unquoted(stream, "stream")

    def _unquoted(self, text: str, field: str) -> str:
        return str(self._unquoted_json(text, field))

    def _unquoted_json(self, value: JsonValue, field: str) -> JsonValue:
        result = unquoted(value, self._quotes)
        if result != value:
            self._note(field, Level.REDACTED, "quotation")
        return result

    def _exception(self, info: ExceptionInfo | None) -> ExceptionInfo | None:
        return None if info is None else replace(info, message=self._unquoted(info.message, "exception_message"))

    def _trigger(self, trigger: Trigger) -> Trigger:
        parameters = self._unquoted_json(dict(trigger.parameters), "trigger.parameters")
        return replace(
            trigger,
            reason=self._unquoted(trigger.reason, "trigger.reason"),
            parameters=cast(dict[str, JsonValue], parameters),
        )

    def _note(self, field: str, level: Level, method: str, count: int = 1) -> None:
        self._noted[field, level, method] += count

    def _account(self) -> tuple[Redaction, ...]:
        own = tuple(
            Redaction(
                field=field,
                level=str(level),
                method=method,
                stage="finished",
                count=count,
                derived_from=self._policy.inherited_from(field) if field.partition(".")[0] != "trigger" else (),
                key=self._key.id if self._key is not None else None,
            )
            for (field, level, method), count in sorted(self._noted.items())
        )
        shared = tuple(replace(each, stage="finished") for each in self._redacting.redactions())
        return (*shared, *own)
