"""The image is one and the same for some frames in a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import PerStream, fired
from recorder.sealer.stages import StageRecord

__all__ = ["FrozenInput"]

#: What is read of an image to see that it moves: so many pieces of so many bytes, spread evenly.
SAMPLED_PIECES, PIECE_BYTES = 4, 4096


@dataclass(slots=True)
class _Still:
    """The last image of a stream. ``full`` is computed when a later one looks the same, and not before."""

    pieces: bytes = b""
    full: bytes | None = None
    read: Callable[[], bytes | None] = field(default=lambda: None)
    run: int = 0


class FrozenInput:
    """Looks at a little of each image, and at all of it when that is the same."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._for_frames = int(parameters["for_frames"])
        self._last = PerStream(_Still)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
        begin = frame.begin
        described = begin.head.get("images", ()) if begin is not None else ()
        images = [image for image in described if isinstance(image.get("offset"), int)]
        if begin is None or not images:
            return None
        end = max(image["offset"] + int(image["size_bytes"]) for image in images)
        pieces = _pieces(begin, end)
        if pieces is None:
            return None
        last = self._last.of(frame.stream)

        def read() -> bytes | None:
            return _digest(begin.payload(0, end))

        full = None
        if pieces == last.pieces:
            full, before = read(), last.full or last.read()
            last.run = last.run + 1 if full is not None and full == before else 1
        else:
            last.run = 1
        last.pieces, last.full, last.read = pieces, full, read
        if last.run < self._for_frames:
            return None
        return fired(
            "frozen_input",
            frame,
            f"the image is the same for {last.run} frames in a row",
            value=float(last.run),
            threshold=float(self._for_frames),
            parameters={"for_frames": self._for_frames},
        )


def _pieces(begin: StageRecord, size: int) -> bytes | None:
    """Digest a little of a frame's images, enough to see that they differ from the last's; None: they are gone."""
    if size <= SAMPLED_PIECES * PIECE_BYTES:
        return _digest(begin.payload(0, size))
    found = [size.to_bytes(8, "little")]
    for number in range(SAMPLED_PIECES):
        piece = begin.payload((size - PIECE_BYTES) * number // (SAMPLED_PIECES - 1), PIECE_BYTES)
        if piece is None:
            return None
        found.append(piece)
    return _digest(b"".join(found))


def _digest(data: bytes | None) -> bytes | None:
    return hashlib.blake2b(data, digest_size=16).digest() if data is not None else None
