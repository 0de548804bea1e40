"""What of one bundle is changed or left out for privacy, and the manifest's account of it.

Frames stand in the ring as the host recorded them; nothing of them is written where others may read it before it has
gone through here. What cannot be redacted is left out.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from recorder.bundle import BundleWriter
from recorder.bundle.manifest import (
    Call,
    ExceptionInfo,
    Frame,
    Image,
    ImageLeftOut,
    Incident,
    Model,
    Redaction,
    Trigger,
)
from recorder.bundle.values import JsonValue, TensorValue, Value, has_removed
from recorder.privacy import Level, PrivacyKey, PrivacyPolicy
from recorder.privacy.redaction import ImageFunction
from recorder.privacy.scrub import REMOVED, Scrubber, scrub_text, without_places
from recorder.privacy.values import without_content
from recorder.sealer.image_redacting import ImageRedacting, image_field, pixels_of

__all__ = ["Redacting", "image_field", "import_functions", "pixels_of", "stream_name"]

#: The sealer runs where the host runs: its name may stand in any message of a connection.
_HOST = socket.gethostname()
#: What stands for a metadata value that was kept out of the ring; it is not replaced again.
_REPLACED = re.compile(r"p_[0-9a-f]{16}")


@functools.lru_cache(maxsize=1024)
def stream_name(text: str) -> str:
    """Return a stream's name without credentials: the key of a camera is often its address."""
    return scrub_text(text)[:200]


def import_functions(policy: PrivacyPolicy | None) -> dict[str, ImageFunction]:
    """Import the functions that the running configuration names; one that fails is not there, which costs the images.

    Never called with a policy that came from a ring.
    """
    functions: dict[str, ImageFunction] = {}
    for steps in policy.redactors.values() if policy is not None else ():
        for step in steps:
            if step.target is not None and step.target not in functions:
                module, _, name = step.target.partition(":")
                try:
                    function = getattr(importlib.import_module(module), name)
                except Exception:  # noqa: BLE001, S112  # user code; every image it should redact is left out and counted
                    continue
                functions[step.target] = function
    return functions


class Redacting:
    """Applies a policy while one bundle is put together.

    Args:
        policy: as latched in the ring; what it removes, nobody can keep.
        key: for pseudonyms and digests; None: values are removed and there are no digests.
        functions: redacting functions by "package.module:function", from the running configuration.
    """

    def __init__(
        self,
        policy: PrivacyPolicy | None = None,
        key: PrivacyKey | None = None,
        functions: Mapping[str, ImageFunction] | None = None,
    ) -> None:
        self.policy = policy if policy is not None else PrivacyPolicy()
        self._key = key
        self._scrubber = Scrubber(denylist=self.policy.denylist, key=key, texts=self.policy.scrub_texts)
        self._noted: Counter[tuple[str, Level, str]] = Counter()
        self._images = ImageRedacting(self.policy, key, functions or {}, self._note)

    @property
    def keeps_layers(self) -> bool:
        """Whether digests of layers may stay: they tell of what goes into a model and of what comes out."""
        return all(self.policy.level_of(field) is Level.FULL for field in ("model_input", "model_output"))

    def redactions(self) -> tuple[Redaction, ...]:
        """The manifest's account of everything done so far."""
        return tuple(
            Redaction(
                field=field,
                level=str(level),
                method=method,
                stage="capture",
                count=count,
                derived_from=self.policy.inherited_from(field),
                key=self._key.id if self._key is not None else None,
            )
            for (field, level, method), count in sorted(self._noted.items())
        )

    def image(
        self,
        writer: BundleWriter,
        frame: int,
        entry: Mapping[str, Any],
        data: bytes,
        metadata: Mapping[str, JsonValue],
    ) -> Image | ImageLeftOut:
        """Store an image as far as its level allows.

        Args:
            writer: of the bundle.
            frame: its id.
            entry: what the frame's record says of the image.
            data: its pixels, or an encoded file.
            metadata: of the frame, as recorded; the boxes stand there.
        """
        return self._images.redact(writer, frame, entry, data, metadata)

    def value(
        self, field: str, value: Value, read: Callable[[int, int], bytes | None], *, keep_keys: bool = False
    ) -> Value | None:
        """Return what a field's level leaves of a value; None where that is all of it.

        Args:
            field: "model_input", "model_output" or "output".
            value: with places of its tensors in the record.
            read: gives bytes of the record's payload by offset and size.
            keep_keys: whether it is a dictionary of keyword arguments.
        """
        level = self.policy.level_of(field)
        if level is Level.FULL and not has_removed(value):
            return None

        def digest(tensor: TensorValue) -> str | None:
            data = read(tensor.offset, tensor.size_bytes) if self._key is not None else None
            return self._stated(data) if data is not None else None

        left = without_content(value, digest, keep_keys=keep_keys)
        if has_removed(left):
            self._note(field, level if level is not Level.FULL else Level.DIGEST_ONLY, "removed")
        return left

    def frame(self, frame: Frame) -> Frame:
        """Return a frame whose texts and metadata may leave."""
        sensor_time = frame.sensor_time
        if sensor_time is not None:
            level = self.policy.level_of("sensor_time")
            if level is Level.FULL:
                sensor_time = self._scrubbed({"sensor_time": sensor_time})["sensor_time"]
            else:
                self._note("sensor_time", level, "removed")
                sensor_time = None
        return dataclasses.replace(
            frame,
            stream=self._stream(frame.stream),
            metadata=self._metadata(frame.metadata),
            sensor_time=sensor_time,
            exception=self._exception(frame.exception),
        )

    def call(self, call: Call) -> Call:
        """Return a call whose exception may leave."""
        return dataclasses.replace(call, exception=self._exception(call.exception))

    def model(self, model: Model) -> Model:
        """Return a model whose problems may leave: they quote messages of the export and of the file system."""
        return dataclasses.replace(model, problems=tuple(self._text("model.problems", each) for each in model.problems))

    def incident(self, incident: Incident) -> Incident:
        """Return an incident whose triggers may leave: reasons quote messages and what user code returned."""
        triggers = tuple(self._trigger(trigger) for trigger in incident.triggers)
        return dataclasses.replace(incident, stream=self._stream(incident.stream), triggers=triggers)

    @property
    def keeps_track(self) -> bool:
        """Whether the history before the window may leave."""
        if self.policy.level_of("track") is not Level.DIGEST_ONLY:
            return True
        self._note("track", Level.DIGEST_ONLY, "removed")
        return False

    def left_out(self, image: ImageLeftOut) -> ImageLeftOut:
        """Return what may be said of an image that was not recorded: a plain digest confirms a guess at its content."""
        return self._images.left_out(image)

    def _metadata(self, metadata: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        kept: dict[str, JsonValue] = {}
        for key, value in metadata.items():
            field = f"metadata.{key}"
            level = self.policy.level_of(field)
            if level is Level.FULL:
                kept |= self._scrubbed({key: value}, "metadata")
                continue
            replaced, method = self._scrubber.replace(value)
            if _is_replaced(value):  # before it reached the ring
                replaced, method = value, "removed" if self._key is None else "pseudonym"
            if replaced != value or _is_replaced(value):
                self._note(field, level, method)
            kept[key] = replaced
        return kept

    def _scrubbed(self, value: dict[str, JsonValue], path: str = "") -> dict[str, JsonValue]:
        scrubbed, changes = self._scrubber.scrub(value, path)
        for change in changes:
            self._note(change.path, Level.REDACTED, change.method)
        return scrubbed if isinstance(scrubbed, dict) else {}

    def _exception(self, info: ExceptionInfo | None) -> ExceptionInfo | None:
        if info is None:
            return None
        return dataclasses.replace(info, message=self._message(info.message))

    def _message(self, message: str) -> str:
        level = self.policy.level_of("exception_message")
        if level is Level.FULL:
            return self._text("exception_message", message)
        if message:
            self._note("exception_message", level, "removed")
        return ""

    def _trigger(self, trigger: Trigger) -> Trigger:
        reason = self._text("trigger.reason", trigger.reason)
        level = self.policy.level_of("exception_message")
        if trigger.kind == "exception" and level is not Level.FULL:
            # The reason of this kind is "type: message".
            reason = str(trigger.parameters.get("type", "an exception"))
            self._note("trigger.reason", level, "removed")
        parameters = self._scrubbed(dict(trigger.parameters), "trigger.parameters")
        return dataclasses.replace(trigger, reason=reason, parameters=parameters)

    def _stream(self, stream: str) -> str:
        scrubbed = scrub_text(stream) if self.policy.scrub_texts else stream
        if scrubbed != stream:
            self._note("stream", Level.REDACTED, "pattern")
        return scrubbed

    def _text(self, field: str, text: str) -> str:
        scrubbed = scrub_text(text) if self.policy.scrub_texts else text
        if not self.policy.keep_places:
            scrubbed = without_places(scrubbed, _HOST)
        if scrubbed != text:
            self._note(field, Level.REDACTED, "pattern")
        return scrubbed

    def _stated(self, data: bytes) -> str | None:
        return self._key.stated(data) if self._key is not None else None

    def _note(self, field: str, level: Level, method: str) -> None:
        self._noted[field[:1000], level, method] += 1


def _is_replaced(value: JsonValue) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_replaced(item) for item in value)
    return isinstance(value, str) and (value == REMOVED or _REPLACED.fullmatch(value) is not None)
