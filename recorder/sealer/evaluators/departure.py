"""A stream has left its reference: what `drift` and `image_quality` listen to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.image_signals import IMAGE_SIGNALS
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import PerStream, fired

__all__ = ["Departed"]


class Departed:
    """A stream that has left its reference, by the detectors of one group."""

    def __init__(self, kind: str, parameters: Mapping[str, Any]) -> None:
        from recorder.drift.reference import checked_rate
        from recorder.drift.watcher import Departure

        self._kind = kind
        rate = parameters.get("frames_per_false_alarm")
        self._rate = None if rate is None else checked_rate(rate)
        self._departures = PerStream(Departure)

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
        watched = frame.watched
        if watched is None:
            return None
        watcher, asked = watched.watcher, self._rate or watched.frames_per_false_alarm
        rate = watcher.normal.kept(asked)
        if not self._departures.of(frame.stream).begins(watcher.excess(self._kind, rate)):
            return None
        alarm = watcher.alarm(self._kind, rate)
        since = "before frame" if alarm.onset_is_earlier else "since frame"
        most = ", ".join(f"{name} {size:+.1f} sigma" for name, size in alarm.shifts[:3]) or "no signal by much"
        short = watcher.normal.shortfall(asked)
        return fired(
            self._kind,
            frame,
            f"the stream has left its reference {since} {alarm.onset}: {most}" + (f"; {short}" if short else ""),
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
