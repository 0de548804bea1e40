"""What every export is made of: frames with their first picture and what was decided about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as pil

from recorder.bundle import Bundle, PixelsDiffer
from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Frame, Image, was_redacted
from recorder.bundle.values import Value
from replay.compare.reading import Reading, read_answer
from replay.exchange import recorded_answer

__all__ = ["CannotExport", "Exported", "Shot", "Source", "to_eight_bits"]


class CannotExport(Exception):
    """The export cannot be made; the message is one sentence with the remedy."""


@dataclass(slots=True, kw_only=True)
class Exported:
    """What an export holds."""

    frames: int = 0
    images: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  #: frames or pictures that are not in it, by reason
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A frame of the export."""

    frame: Frame
    image: Image | None  #: its first picture
    reading: Reading | None  #: what was decided, where probes would understand it


class Source:
    """The frames of a bundle that are wanted."""

    def __init__(self, bundle: Bundle, wanted: frozenset[int] | None, exported: Exported) -> None:
        """``wanted`` holds ids; None: all. What is left out is counted in ``exported``."""
        self.bundle = bundle
        self.exported = exported
        self._calls = {call.id: call for call in bundle.manifest.calls}
        thinning = bundle.manifest.incident.thinning
        self._thinned = frozenset(thinning.frames) if thinning is not None else frozenset[int]()
        self.frames = [frame for frame in bundle.manifest.frames if wanted is None or frame.id in wanted]

    def shots(self) -> Iterator[Shot]:
        """Yield every wanted frame; one without a picture is counted."""
        for frame in self.frames:
            image = frame.images[0] if frame.images else None
            if image is None:
                reasons = {left.reason for left in frame.images_left_out}
                self.exported.left_out[
                    "thinned" if frame.id in self._thinned else min(reasons, default="no picture")
                ] += 1
            elif was_redacted(self.bundle.manifest, image.name):
                self.exported.left_out["redacted pictures, which are in it as they are"] += 1
            self.exported.frames += 1
            yield Shot(frame=frame, image=image, reading=self._reading(frame))

    def pixels(self, image: Image) -> NDArray[Any] | None:
        """A picture's pixels, HW or HWC, uint8 or uint16; None where they cannot be decoded here, which is counted.

        Raises:
            BundleInvalid, BundleUnavailable: it is not what the manifest says.
        """
        try:
            pixels = self.bundle.pixels(image)
        except PixelsDiffer:
            self.exported.left_out["decoded otherwise here"] += 1
            return None
        self.exported.images += 1
        return np.asarray(pixels)

    def _reading(self, frame: Frame) -> Reading | None:
        """The service's answer where it can be read, else that of the frame's last call that can be."""
        candidates: list[tuple[Value | None, int | None]] = [(frame.output, None)]
        for number in reversed(frame.calls):
            call = self._calls.get(number)
            if call is not None and call.output is not None:
                row = call.frames.index(frame.id) if frame.id in call.frames else None
                candidates.append((call.output, row))
        for value, row in candidates:
            if value is None:
                continue
            try:
                reading = read_answer(recorded_answer(value, self.bundle.tensor_bytes), row)
            except (ValueError, BundleError):
                continue
            if reading is not None:
                return reading
        return None


def to_eight_bits(pixels: NDArray[Any]) -> pil.Image:
    """A picture that every tool reads: 16 bits are reduced to 8, alpha goes."""
    eight = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    if eight.ndim == 3:
        eight = eight[..., 0] if eight.shape[2] < 3 else eight[..., :3]
    return pil.fromarray(np.ascontiguousarray(eight))
