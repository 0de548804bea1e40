"""The record of a frame's beginning: its images, and what is known before the model runs."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import addressof, c_char
from time import time_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from recorder.capture import Description, align, capture_image
from recorder.head_template import HeadTemplate, Hole, Templates
from recorder.records import Kind, pack_value

if TYPE_CHECKING:
    from recorder.frame import Frame
    from recorder.session import Session

__all__ = ["Beginnings"]

_BEGIN = int(Kind.BEGIN)


class Beginnings:
    """Writes them for one recording; those of the same stream and image shape by a template."""

    __slots__ = ("_templates",)

    def __init__(self) -> None:
        #: template and bytes of the image, by stream, shape and dtype
        self._templates: Templates[tuple[HeadTemplate, int]] = Templates()

    def write(self, session: Session, frame: Frame, images: Mapping[str, object] | None) -> None:
        """Commit the beginning of a frame; what cannot be kept of its images is counted.

        Args:
            session: the recording.
            frame: which has been prepared.
            images: by name; None values and an empty mapping stand for none.
        """
        if frame.sensor_time is not None or not self._write_quickly(session, frame, images):
            self._write_plainly(session, frame, images)

    def _write_quickly(self, session: Session, frame: Frame, images: Mapping[str, object] | None) -> bool:
        """Write the record by a template, if there is one for this stream and image shape; say whether it was."""
        if images:
            image = images.get("image")
            if len(images) > 1 or type(image) is not np.ndarray:
                return False
            known = self._templates.get((frame.stream, image.shape, image.dtype))
            flags = image.flags
            if known is None or not (flags.c_contiguous and flags.writeable):
                return False
            template, size_bytes = known
            # A third of the time that the array interface takes; it asks for a writable buffer.
            parts = [(addressof(c_char.from_buffer(image)), 0, size_bytes)]  # type: ignore[arg-type]  # it has one
        else:
            known = self._templates.get((frame.stream, None, None))
            if known is None:
                return False
            template, size_bytes = known
            parts = []
        head = template.pack_with(pack_value(frame.plain_metadata), time_ns(), frame.began_ns, session.contexts.latest)
        return session.records.append(_BEGIN, frame.id, head, size_bytes, parts)

    def _write_plainly(self, session: Session, frame: Frame, images: Mapping[str, object] | None) -> None:
        payload = Description({})
        heads = []
        kept_out = []
        for name, image in (images or {}).items():
            if image is None:
                continue
            try:
                captured = capture_image(str(name)[:64], image)
            except (ValueError, OSError):
                frame.lose(session, "image-unsupported")
                continue
            if session.withheld is not None and session.withheld.keeps_out_image(captured.head["name"]):
                kept_out.append(session.withheld.image(captured))
                continue
            payload.leaves.append(captured.leaf)
            payload.offsets.append(align(payload.size_bytes))
            payload.size_bytes = payload.offsets[-1] + captured.leaf.size_bytes
            heads.append({**captured.head, "offset": payload.offsets[-1]})
        head = {**frame.beginning(session), "images": heads}
        if kept_out:
            head["left_out"] = kept_out
        if not session.records.write(Kind.BEGIN, frame.id, head, payload):
            frame.lose(session, "image-not-recorded", len(heads))
            left_out = session.records.describe_left_out(heads, payload)
            session.records.write(Kind.BEGIN, frame.id, {**head, "images": [], "left_out": [*kept_out, *left_out]})
        elif frame.sensor_time is None:
            self._learn(frame, images, head)

    def _learn(self, frame: Frame, images: Mapping[str, object] | None, head: Mapping[str, Any]) -> None:
        """Remember the head just written, for frames of the same stream and image shape."""
        holes = {"time": Hole.INTEGER, "monotonic": Hole.INTEGER, "context": Hole.INTEGER}
        template = HeadTemplate({**head, **holes}, last="metadata")
        if not images:
            self._templates.learn((frame.stream, None, None), (template, 0))
            return
        image = images.get("image")
        if len(images) != 1 or type(image) is not np.ndarray or len(head["images"]) != 1:
            return
        if image.flags.c_contiguous and image.dtype.isnative:
            self._templates.learn((frame.stream, image.shape, image.dtype), (template, image.nbytes))
