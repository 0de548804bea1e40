"""One frame of the track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recorder.image_signals import IMAGE_SIGNALS

__all__ = ["NO_CLASS", "RAISED", "ROW_SECONDS", "Row", "TRACK_SIGNALS"]

#: Name to unit, in the order of `Row.values`. The images' are defined in `recorder.image_signals`, the answers' in
#: `recorder.signals.AnswerSummary`; ``latency`` is the frame's, ``repeated`` is 1 where the image has the bytes of the
#: stream's image before, else 0.
TRACK_SIGNALS: dict[str, str] = {
    "latency": "seconds",
    **IMAGE_SIGNALS,
    "repeated": "share of frames",
    "confidence": "probability",
    "entropy": "nats",
    "margin": "probability",
    "detections": "count",
}

#: Every frame stands in the track for so long; of what is older, only intervals.
ROW_SECONDS = 60.0
#: ``Row.top_class`` of an answer without classes.
NO_CLASS = -1
#: ``Row.status`` of a frame through which an exception passed; 0: it is complete.
RAISED = 1


@dataclass(slots=True)
class Row:
    """One frame that has ended."""

    frame: int
    stream: str
    time_ns: int  #: wall clock at its beginning
    monotonic_ns: int  #: what intervals are cut by: it never jumps
    status: int
    digest: int  #: of the image's bytes, 64 bits; 0: there was no image
    top_class: int
    values: npt.NDArray[np.float32]  #: one for each of `TRACK_SIGNALS`, NaN where there is none
