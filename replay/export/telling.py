"""What viewers are told of a frame besides its picture."""

from __future__ import annotations

import math
from typing import Any

from recorder.bundle.manifest import Image
from replay.export.names import plain_name
from replay.export.source import Shot
from replay.show.text import inert

__all__ = ["picture_name", "told"]

#: What else stands under a stream.
_TAKEN = ("boxes", "confidence", "frame", "latency_seconds", "mask", "signals")


def picture_name(image: Image) -> str:
    """A picture's place under its stream: "image" unless its frame has several."""
    return plain_name(image.name, _TAKEN)


def told(shot: Shot) -> dict[str, Any]:
    """What is known of a frame besides its picture, as JSON."""
    frame, reading = shot.frame, shot.reading
    sure = None if reading is None else reading.confidence
    return {
        "bundle": shot.source.bundle.id,
        "frame": frame.id,
        "stream": inert(frame.stream, 200),
        "status": frame.status,
        "latency_seconds": frame.latency_seconds,
        "decision": None if reading is None else reading.label,
        "confidence": sure if sure is not None and math.isfinite(sure) else None,
        "metadata": frame.metadata,
    }
