"""One class a trigger: what it remembers of each stream, and when it fires.

An evaluator is made from the parameters of a `recorder.triggers.Trigger` and sees every frame once, when it has ended.
How to add one: docs/triggers.md.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from recorder.bundle.manifest import Trigger
from recorder.bundle.values import JsonValue
from recorder.drift.answers import TESTS as ANSWER_TESTS
from recorder.drift.reference import checked_rate
from recorder.drift.watcher import Departure
from recorder.image_signals import IMAGE_SIGNALS
from recorder.output_shift import TESTS, ShiftTest, WindowFigures
from recorder.quantile import StreamingQuantile
from recorder.records import Kind
from recorder.sealer.ended import EndedFrame
from recorder.sealer.stages import StageRecord
from recorder.signals import count_non_finite, top_class

__all__ = ["COMPARING", "EVALUATORS", "Evaluator"]

#: Streams remembered by each trigger; a stream key made of something unique must not grow the sealer.
MAX_STREAMS = 1_024
#: Innermost traceback entries that tell exceptions apart: a torch module adds three a level.
TRACEBACK_ENTRIES = 8
#: Frames that a latency quantile remembers at full weight.
LATENCY_MEMORY_FRAMES = 10_000
#: What is read of an image to see that it moves: so many pieces of so many bytes, spread evenly.
SAMPLED_PIECES, PIECE_BYTES = 4, 4096

T = TypeVar("T")


class Evaluator(Protocol):
    """Decides whether a frame fires a trigger."""

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """Return the trigger that fires on this frame, None mostly."""


class _PerStream(Generic[T]):
    """Something for each of the latest `MAX_STREAMS` streams."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._kept: OrderedDict[str, T] = OrderedDict()

    def of(self, stream: str) -> T:
        if stream not in self._kept:
            self._kept[stream] = self._make()
            if len(self._kept) > MAX_STREAMS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(stream)
        return self._kept[stream]


class _Exception:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        pass

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        for stage in frame.stages:
            found = stage.head.get("exception") if stage.kind in (Kind.OUTPUT, Kind.END) else None
            if found:
                innermost = found.get("traceback", ())[-TRACEBACK_ENTRIES:]
                at: list[JsonValue] = [str(entry) for entry in innermost]
                reason = f"{found['type']}: {found['message']}"
                return _fired(
                    "exception",
                    frame,
                    reason,
                    parameters={"type": str(found["type"]), "stage": str(found["stage"]), "at": at},
                )
        return None


class _NonFinite:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        pass

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        for part in frame.parts(Kind.INPUT, Kind.OUTPUT, Kind.END):
            count = count_non_finite(part.value, part.tensors)
            if count:
                where = f"the {part.name} of call {part.call}" if part.call is not None else f"the {part.name}"
                return _fired(
                    "non_finite",
                    frame,
                    f"{count} values in {where} are NaN or infinite",
                    value=float(count),
                    threshold=0.0,
                    parameters={"part": part.name, "call": part.call, "model": part.model},
                )
        return None


@dataclass(slots=True)
class _Run:
    length: int = 0


class _LowConfidence:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._below = float(parameters["below"])
        self._key = parameters.get("key")
        self._for_frames = int(parameters.get("for_frames", 1))
        self._runs = _PerStream(_Run)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        judged, run = frame.judged(self._key), self._runs.of(frame.stream)
        if judged is None or judged[1] >= self._below:
            run.length = 0
            return None
        run.length += 1
        if run.length < self._for_frames:
            return None
        part, measured = judged
        lasting = f" for {run.length} frames in a row" if self._for_frames > 1 else ""
        return _fired(
            "low_confidence",
            frame,
            f"confidence {measured:.3f} is below {self._below:g}{lasting}",
            value=measured,
            threshold=self._below,
            parameters={
                "below": self._below,
                "key": self._key,
                "for_frames": self._for_frames,
                "source": "answer" if part.name == "answer" else "model",
                "row": part.row,
            },
        )


class _Sample:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._rate = float(parameters["rate"])
        self._by = str(parameters["by"])

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        for stage in (frame.end, frame.begin):
            metadata = stage.head.get("metadata") if stage is not None else None
            if metadata and metadata.get(self._by) is not None:
                chosen_by = metadata[self._by]
                break
        else:
            chosen_by = frame.id
        text = chosen_by if isinstance(chosen_by, str) else json.dumps(chosen_by, sort_keys=True)
        digest = hashlib.sha256(text.encode(errors="replace")).digest()
        if int.from_bytes(digest[:8], "big") / 2**64 >= self._rate:
            return None
        return _fired(
            "sample", frame, f"one of a sample of {self._rate:g}", parameters={"rate": self._rate, "by": self._by}
        )


class _Latency:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = dict(parameters)
        above, quantile = parameters.get("above_ms"), parameters.get("quantile")
        self._above_ms = float(above) if above is not None else None
        self._times = float(parameters.get("times", 1.0))
        self._min_frames = int(parameters["min_frames"])
        wanted = float(quantile) if quantile is not None else 0.5
        self._quantiles = _PerStream(lambda: StreamingQuantile(wanted, LATENCY_MEMORY_FRAMES))

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        if frame.end is None:
            return None
        taken_ms, earlier = float(frame.end.head["latency"]) * 1e3, self._quantiles.of(frame.stream)
        known = earlier.count >= self._min_frames
        bound_ms = self._above_ms if self._above_ms is not None else self._times * earlier.value()
        earlier.add(taken_ms)
        if not known or taken_ms <= bound_ms:
            return None
        what = "the bound" if self._above_ms is not None else f"{self._times:g} x the stream's quantile"
        return _fired(
            "latency",
            frame,
            f"the frame took {taken_ms:.1f} ms, above {what} of {bound_ms:.1f} ms",
            value=taken_ms,
            threshold=bound_ms,
            parameters=self._parameters,
        )


@dataclass(slots=True)
class _Still:
    """The last image of a stream. ``full`` is computed when a later one looks the same, and not before."""

    pieces: bytes = b""
    full: bytes | None = None
    read: Callable[[], bytes | None] = field(default=lambda: None)
    run: int = 0


class _FrozenInput:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._for_frames = int(parameters["for_frames"])
        self._last = _PerStream(_Still)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
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
        return _fired(
            "frozen_input",
            frame,
            f"the image is the same for {last.run} frames in a row",
            value=float(last.run),
            threshold=float(self._for_frames),
            parameters={"for_frames": self._for_frames},
        )


@dataclass(slots=True)
class _Answers:
    test: ShiftTest = field(default_factory=ShiftTest)
    window: list[tuple[float | None, str | None]] = field(default_factory=list)
    began_ns: int = 0


class _OutputShift:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._window = min(max(1, int(parameters["window"])), MAX_WINDOW_FRAMES)
        self._per_hour = float(parameters["false_alarms_per_hour"])
        self._key = parameters.get("key")
        self._streams = _PerStream(_Answers)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        judged = frame.judged(self._key)
        measured = judged[1] if judged is not None else None
        # Detections without any score: nothing was found, which is an answer too.
        looked_at = [judged[0]] if judged is not None else [*frame.parts(Kind.OUTPUT), *frame.parts(Kind.END)]
        classes = (top_class(part.value, part.tensors, self._key, part.row) for part in looked_at)
        name = next((name for name in classes if name is not None), None)
        if measured is None and name is None:
            return None
        stream = self._streams.of(frame.stream)
        if not stream.window:
            stream.began_ns = frame.time_ns
        stream.window.append((measured, name))
        if len(stream.window) < self._window:
            return None
        answers, stream.window = stream.window, []
        figures = WindowFigures.of(answers)
        # The clock may jump; a false alarm more or less is all that comes of it.
        hours = max(frame.time_ns - stream.began_ns, 1) / 3.6e12 * self._window / max(self._window - 1, 1)
        significance = min(max(self._per_hour * hours, MIN_SIGNIFICANCE), MAX_SIGNIFICANCE)
        known = frame.watched.watcher.normal.answers if frame.watched is not None else None
        if known is not None:
            shift, before_frames, tests = known.judge(answers, significance), known.frames, ANSWER_TESTS
        else:
            before_frames, tests = stream.test.reference_frames, TESTS
            shift = stream.test.judge(figures, significance)
        if shift is None:
            return None
        if shift.what == "classes":
            reason = f"class {shift.name} is the answer to {shift.now:.0%} of the last {figures.frames} frames"
        else:
            reason = f"the {shift.what} of the last {figures.frames} frames is {shift.now:.3f}"
        before = f"{shift.before:.0%}" if shift.what == "classes" else f"{shift.before:.3f}"
        return _fired(
            "output_shift",
            frame,
            f"{reason}, {before} in the {before_frames} before",
            value=shift.p,
            threshold=significance / tests,
            parameters={
                "what": shift.what,
                "class": shift.name or None,
                "before": shift.before,
                "now": shift.now,
                "window": self._window,
                "false_alarms_per_hour": self._per_hour,
                "reference_frames": before_frames,
                "reference": "stream" if known is None else "profile",
                "key": self._key,
            },
        )


class _Comparison:
    """A stream that has left its reference, by the detectors of one group."""

    def __init__(self, kind: str, parameters: Mapping[str, Any]) -> None:
        self._kind = kind
        rate = parameters.get("frames_per_false_alarm")
        self._rate = None if rate is None else checked_rate(rate)
        self._departures = _PerStream(Departure)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        watched = frame.watched
        if watched is None:
            return None
        watcher, rate = watched.watcher, self._rate or watched.frames_per_false_alarm
        if not self._departures.of(frame.stream).begins(watcher.excess(self._kind, rate)):
            return None
        alarm = watcher.alarm(self._kind, rate)
        since = "before frame" if alarm.onset_is_earlier else "since frame"
        most = ", ".join(f"{name} {size:+.1f} sigma" for name, size in alarm.shifts[:3]) or "no signal by much"
        return _fired(
            self._kind,
            frame,
            f"the stream has left its reference {since} {alarm.onset}: {most}",
            value=alarm.value,
            threshold=alarm.threshold,
            parameters={
                "detector": alarm.detector,
                "signal": next((name for name, _ in alarm.shifts if name in IMAGE_SIGNALS), None),
                "onset_frame": alarm.onset,
                "onset_is_earlier": alarm.onset_is_earlier,
                "frames_since_onset": alarm.frames_since,
                "shifts": dict(alarm.shifts),
                "frames_per_false_alarm": rate,
                "hours_per_false_alarm": watched.hours(rate),
                "reference_frames": watcher.normal.frames,
            },
        )


#: Kinds that compare a stream with its reference.
COMPARING = frozenset({"drift", "image_quality", "output_shift"})
#: What `recorder.triggers.output_shift` allows.
MAX_WINDOW_FRAMES = 10_000
#: Beyond these the tails of the test mean nothing, and a rare frame must not make every second window an alarm.
MIN_SIGNIFICANCE, MAX_SIGNIFICANCE = 1e-9, 1e-2

EVALUATORS: dict[str, Callable[[Mapping[str, Any]], Evaluator]] = {
    "drift": lambda parameters: _Comparison("drift", parameters),
    "image_quality": lambda parameters: _Comparison("image_quality", parameters),
    "exception": _Exception,
    "frozen_input": _FrozenInput,
    "latency": _Latency,
    "low_confidence": _LowConfidence,
    "non_finite": _NonFinite,
    "output_shift": _OutputShift,
    "sample": _Sample,
}


def _fired(
    kind: str,
    frame: EndedFrame,
    reason: str,
    *,
    value: float | None = None,
    threshold: float | None = None,
    parameters: dict[str, JsonValue],
) -> Trigger:
    return Trigger(
        kind=kind,
        reason=reason[:1_000],
        frame=frame.id,
        time_ns=frame.time_ns,
        value=value,
        threshold=threshold,
        parameters=parameters,
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
