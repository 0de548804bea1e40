"""The answers of a stream are no longer distributed as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.output_shift import TESTS, ShiftTest, WindowFigures
from recorder.records import Kind
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import PerStream, fired
from recorder.signals import top_class

__all__ = ["OutputShift"]

#: What `recorder.triggers.output_shift` allows.
MAX_WINDOW_FRAMES = 10_000
#: Beyond these the tails of the test mean nothing, and a rare frame must not make every second window an alarm.
MIN_SIGNIFICANCE, MAX_SIGNIFICANCE = 1e-9, 1e-2


@dataclass(slots=True)
class _Answers:
    test: ShiftTest = field(default_factory=ShiftTest)
    window: list[tuple[float | None, str | None]] = field(default_factory=list)
    began_ns: int = 0


class OutputShift:
    """Compares windows of answers with the reference, or with those before."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._window = min(max(1, int(parameters["window"])), MAX_WINDOW_FRAMES)
        self._per_hour = float(parameters["false_alarms_per_hour"])
        self._key = parameters.get("key")
        self._streams = PerStream(_Answers)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
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
            from recorder.drift.answers import TESTS as ANSWER_TESTS

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
        return fired(
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
