"""A frame that has ended, in numbers: measured here, in the sealer, never on the host's threads."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.bundle.codec import value_from_json
from recorder.bundle.errors import BundleInvalid
from recorder.bundle.values import tensors_of
from recorder.counts import Counts
from recorder.image_signals import IMAGE_SIGNALS, bytes_digest, decode_reduced, image_signals
from recorder.privacy import Level, PrivacyPolicy
from recorder.records import Kind, RecordInvalid
from recorder.sealer.image_redacting import image_field
from recorder.sealer.placing import placed
from recorder.sealer.stages import StageRecord
from recorder.signals import AnswerSummary, summarize_answer
from recorder.track import NO_CLASS, RAISED, TRACK_SIGNALS, Row

__all__ = ["Measuring", "Picture"]

#: Share of one core that measuring may take; frames beyond it get a row without image and answer. At 2.2 ms a frame of
#: 720p it allows 90 frames a second.
CPU_SHARE = 0.2
#: The share may be overdrawn by so much: a burst after a pause is measured in full.
BURST_SECONDS = 0.5
#: Answers larger than this are not summarised: a map of pixels has no one confidence, and costs as much as an image.
MAX_ANSWER_BYTES = 2**20
#: An image larger than this is not read.
MAX_IMAGE_BYTES = 64 * 2**20
#: Streams whose last image is remembered, 3.6 kB each.
MAX_STREAMS = 1_024

_LARGEST = 2**62
_FIRST_IMAGE = list(TRACK_SIGNALS).index(next(iter(IMAGE_SIGNALS)))
_PLACES = {name: number for number, name in enumerate(TRACK_SIGNALS)}


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame's first image, as it was measured."""

    entry: dict[str, Any]
    pixels: npt.NDArray[Any]


class Measuring:
    """Measures the frames of one ring.

    Args:
        lost: where it is counted what could not be measured.
        cpu_share: of one core that it may take.
        clock: the time by which the share is counted, in seconds.

    Attributes:
        policy: what may be noted of a frame; the recording's, as soon as it is known.
        spent_seconds: CPU time spent, by `Measuring.spend` as well.
    """

    def __init__(
        self, lost: Counts, *, cpu_share: float = CPU_SHARE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.policy = PrivacyPolicy()
        self.spent_seconds = 0.0
        self._lost = lost
        self._cpu_share = cpu_share
        self._clock = clock
        self._credit = BURST_SECONDS
        self._credited_at = clock()
        self._before: OrderedDict[str, tuple[int, npt.NDArray[np.uint8]]] = OrderedDict()

    def spend(self, seconds: float) -> None:
        """Count CPU time against the share."""
        self.spent_seconds += seconds
        self._credit -= seconds

    def row(self, frame: int, stream: str, stages: Sequence[StageRecord]) -> tuple[Row, Picture | None]:
        """Measure a frame that has ended, given its records; return its row, and the image that was measured.

        Raises:
            RecordInvalid, KeyError, TypeError, ValueError, AttributeError, OverflowError: a record is malformed.
        """
        begin = stages[0].head
        end = next((stage for stage in stages if stage.kind == Kind.END), None)
        row = Row(
            frame=frame,
            stream=stream,
            time_ns=_time(begin["time"]),
            monotonic_ns=_time(begin["monotonic"]),
            status=RAISED if any(stage.head.get("exception") for stage in stages) else 0,
            digest=0,
            top_class=NO_CLASS,
            values=np.full(len(TRACK_SIGNALS), np.nan, np.float32),
        )
        if end is not None and isinstance(end.head["latency"], float):
            row.values[_PLACES["latency"]] = end.head["latency"]
        picture = None
        if self._can_afford():
            picture = self._measure_image(row, stages[0])
            self._measure_answer(row, stages)
        else:
            self._lost.add("track-row-not-measured")
        return row, picture

    def _can_afford(self) -> bool:
        now = self._clock()
        earned = max(0.0, now - self._credited_at) * self._cpu_share
        self._credit = min(BURST_SECONDS, self._credit + earned)
        self._credited_at = now
        return self._credit > 0

    def _measure_image(self, row: Row, stage: StageRecord) -> Picture | None:
        """Fill in what the frame's first image is like."""
        entry = next(iter(stage.head["images"]), None)
        if entry is None:
            return None
        size_bytes = int(entry["size_bytes"])
        if size_bytes > MAX_IMAGE_BYTES:
            self._lost.add("track-image-too-large")
            return None
        data = stage.payload(int(entry["offset"]), size_bytes)
        pixels = _pixels(entry, data) if data is not None else None
        if data is None or pixels is None:
            self._lost.add("track-image-overwritten" if data is None else "track-image-not-decoded")
            return None
        row.digest = bytes_digest(data) or 1
        before, small = self._before.get(row.stream, (0, None))
        measured = image_signals(pixels, small)
        row.values[_FIRST_IMAGE : _FIRST_IMAGE + len(IMAGE_SIGNALS)] = measured.values
        if before:
            row.values[_PLACES["repeated"]] = float(row.digest == before)
        self._before[row.stream] = (row.digest, measured.small)
        self._before.move_to_end(row.stream)
        if len(self._before) > MAX_STREAMS:
            self._before.popitem(last=False)
        full = self.policy.level_of(image_field(str(entry["name"]))) is Level.FULL
        if not full or self.policy.level_of("track") is not Level.FULL:
            row.digest = 0  # it would confirm a guess at what was under a box
        return Picture(entry, pixels)

    def _is_full(self, field: str) -> bool:
        return self.policy.level_of(field) is Level.FULL

    def _measure_answer(self, row: Row, stages: Sequence[StageRecord]) -> None:
        """Fill in what the model answered last, or, where no model was called, the service."""
        answered = [stage for stage in stages if stage.head.get("output")]
        calls = [stage for stage in answered if stage.kind == Kind.OUTPUT and self._is_full("model_output")]
        answers = [stage for stage in answered if stage.kind == Kind.END and self._is_full("output")]
        for stage in (*reversed(calls), *answers):
            try:
                found = _summary(stage, row.frame)
            except (BundleInvalid, RecordInvalid, KeyError, TypeError, ValueError):
                continue
            if found is not None and not (math.isnan(found.confidence) and math.isnan(found.detections)):
                for name in ("confidence", "entropy", "margin", "detections"):
                    row.values[_PLACES[name]] = getattr(found, name)
                if found.top_class is not None and abs(found.top_class) < 2**31:
                    row.top_class = found.top_class
                return


def _pixels(entry: dict[str, Any], data: bytes) -> npt.NDArray[Any] | None:
    if entry["encoding"] != "pixels":
        return decode_reduced(data, str(entry["encoding"]))
    height, width, channels = int(entry["height"]), int(entry["width"]), int(entry["channels"])
    dtype = {"uint8": np.uint8, "uint16": np.uint16}[entry["dtype"]]
    return np.frombuffer(data, dtype).reshape((height, width, channels) if channels else (height, width))


def _summary(stage: StageRecord, frame: int) -> AnswerSummary | None:
    value = value_from_json(placed(stage.head["output"]))
    tensors, total = {}, 0
    for path, tensor in tensors_of(value):
        total += tensor.size_bytes
        if total > MAX_ANSWER_BYTES:
            return None
        data = stage.payload(tensor.offset, tensor.size_bytes)
        if data is not None:
            tensors[path] = data
    frames = stage.head.get("frames") or []
    row = frames.index(frame) if len(frames) > 1 and frame in frames else None
    return summarize_answer(value, tensors, row)


def _time(value: Any) -> int:
    """A time that fits the file; a ring may claim any number."""
    if not isinstance(value, int) or abs(value) >= _LARGEST:
        raise ValueError("a time beyond any clock")
    return value
