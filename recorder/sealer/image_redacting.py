"""What of an image is changed or left out for privacy; one that cannot be redacted is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recorder.bundle import BundleWriter
from recorder.bundle.images import DECODER_ERRORS, decode_file
from recorder.bundle.manifest import Image, ImageLeftOut
from recorder.bundle.values import JsonValue
from recorder.privacy import Level, PrivacyKey, PrivacyPolicy
from recorder.privacy.location import without_location
from recorder.privacy.redaction import ImageFunction, RedactionFailed, redact

__all__ = ["ImageRedacting", "image_field", "pixels_of"]


def image_field(name: str) -> str:
    """The privacy field of an image of that name."""
    return "image" if name == "image" else f"image.{name}"


class ImageRedacting:
    """Applies a policy to the images of one bundle; `recorder.sealer.redacting` does so to everything else.

    Args:
        policy: as latched in the ring.
        key: for digests; None: there are none.
        functions: redacting functions by "package.module:function".
        note: called with the field, the level and the method of everything that is changed or left out.
    """

    def __init__(
        self,
        policy: PrivacyPolicy,
        key: PrivacyKey | None,
        functions: Mapping[str, ImageFunction],
        note: Callable[[str, Level, str], None],
    ) -> None:
        self._policy = policy
        self._key = key
        self._functions = functions
        self._note = note

    def redact(
        self,
        writer: BundleWriter,
        frame: int,
        entry: Mapping[str, Any],
        data: bytes,
        metadata: Mapping[str, JsonValue],
    ) -> Image | ImageLeftOut:
        """Store an image as far as its level allows, as `Redacting.image` says."""
        name, source = str(entry["name"]), str(entry["source"])
        field = image_field(name)
        level = self._policy.level_of(field)
        if level is Level.DIGEST_ONLY:
            self._note(field, level, "removed")
            return self._left_out(entry, data, "privacy")
        if level is Level.FULL:
            return self._whole_image(writer, frame, entry, data)
        steps = self._policy.redactors_of(field)
        try:
            pixels = redact(pixels_of(entry, data), steps, metadata, self._functions)
        except (RedactionFailed, ValueError, *DECODER_ERRORS):
            self._note(field, level, "removed")
            return self._left_out(entry, data, "redaction-failed")
        self._note(field, level, "+".join(step.method for step in steps)[:64])
        image = writer.image(frame, name, pixels, source=source)
        return self._thumbnail(dataclasses.replace(image, original_digest=self._stated(data)), redacted=True)

    def left_out(self, image: ImageLeftOut) -> ImageLeftOut:
        """Return what may be said of an image that was not recorded: a plain digest confirms a guess at its content."""
        field = image_field(image.name)
        level = self._policy.level_of(field)
        if level is Level.FULL:
            return image
        self._note(field, level, "removed")
        return dataclasses.replace(image, sha256=None, reason=image.reason or "privacy")

    def _whole_image(
        self, writer: BundleWriter, frame: int, entry: Mapping[str, Any], data: bytes
    ) -> Image | ImageLeftOut:
        name, source = str(entry["name"]), str(entry["source"])
        if entry["encoding"] == "pixels":
            return self._thumbnail(writer.image(frame, name, pixels_of(entry, data), source=source))
        if self._policy.strip_location:
            try:
                stripped = without_location(data, str(entry["encoding"]))
            except ValueError:
                self._note(image_field(name), Level.REDACTED, "removed")
                return self._left_out(entry, data, "redaction-failed")
            if stripped != data:
                self._note(image_field(name), Level.REDACTED, "location")
            data = stripped
        return self._thumbnail(writer.encoded_image(frame, name, data, source=source))

    def _thumbnail(self, image: Image, *, redacted: bool = False) -> Image:
        """A thumbnail is made of the image as it is stored; only a level of its own takes it away."""
        level = Level(self._policy.levels.get("thumbnails", Level.FULL))
        if image.thumbnail is None or level is Level.FULL or (level is Level.REDACTED and redacted):
            return image
        self._note("thumbnails", level, "removed")
        return dataclasses.replace(image, thumbnail=None)

    def _left_out(self, entry: Mapping[str, Any], data: bytes, reason: str) -> ImageLeftOut:
        sizes = {key: int(entry[key]) for key in ("height", "width", "channels") if key in entry}
        return ImageLeftOut(
            name=str(entry["name"]),
            source=str(entry["source"]),
            encoding=str(entry["encoding"]),
            size_bytes=len(data),
            sha256=None,
            dtype=str(entry.get("dtype", "")),
            reason=reason,
            original_digest=self._stated(data),
            **sizes,
        )

    def _stated(self, data: bytes) -> str | None:
        return self._key.stated(data) if self._key is not None else None


def pixels_of(entry: Mapping[str, Any], data: bytes) -> NDArray[Any]:
    """Decode an image as its record describes it."""
    if entry["encoding"] != "pixels":
        return decode_file(data, str(entry["encoding"]))
    height, width, channels = int(entry["height"]), int(entry["width"]), int(entry["channels"])
    dtype = np.dtype({"uint8": np.uint8, "uint16": np.uint16}[entry["dtype"]])
    return np.frombuffer(data, dtype).reshape((height, width, channels) if channels else (height, width))
