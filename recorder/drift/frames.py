"""A reference from pictures themselves: measured as the sealer measures a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.drift.reference import DEFAULT_FRAMES_PER_FALSE_ALARM, Reference
from recorder.image_signals import IMAGE_SIGNALS, image_signals

__all__ = ["reference_of_frames"]


def reference_of_frames(
    frames: Iterable[npt.NDArray[Any]],
    embeddings: npt.ArrayLike | None = None,
    keys: Sequence[str] | None = None,
    frames_per_false_alarm: int = DEFAULT_FRAMES_PER_FALSE_ALARM,
    begins: Sequence[int] = (),
) -> Reference:
    """Measure clean frames, oldest first, and learn from them; arguments as for `Reference.fit`.

    Args:
        frames: HW or HWC, uint8 or uint16, at the size at which the stream is recorded.

    Raises:
        ValueError: a frame is no image, a stream's frames change their size, or they are no reference. One sentence.
    """
    rows = []
    sizes: dict[str, tuple[str, tuple[int, ...]]] = {}
    before: dict[str, npt.NDArray[np.uint8]] = {}
    starting = frozenset(begins)
    for number, frame in enumerate(frames):
        if keys is not None and number >= len(keys):
            raise ValueError("keys must name a stream for every frame")
        key = keys[number] if keys is not None else ""
        pixels = np.asarray(frame)
        size = (str(pixels.dtype), pixels.shape)
        # Sharpness, noise and motion are in pixels: of another size they say something else.
        if sizes.setdefault(key, size) != size:
            (dtype, shape), (other, others) = sizes[key], size
            raise ValueError(
                f"frames change from {shape} of {dtype} to {others} of {other} at frame {number}; give those of one "
                "camera setting, or keys that tell them apart"
            )
        if number in starting:
            before.clear()
        measured = image_signals(pixels, before.get(key))
        before[key] = measured.small
        rows.append(measured.values)
    signals = np.stack(rows) if rows else np.empty((0, len(IMAGE_SIGNALS)))
    return Reference.fit(
        signals,
        tuple(IMAGE_SIGNALS),
        embeddings,
        keys=keys,
        frames_per_false_alarm=frames_per_false_alarm,
        begins=begins,
    )
