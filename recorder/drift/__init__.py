"""Whether a stream still looks like its reference: detectors whose false-alarm rate is calibrated, not assumed.

- `recorder.drift.reference` learns what is normal from clean frames, and what chance does to every detector;
- `recorder.drift.watcher` compares a stream with it, frame by frame, and says when it left, and since when.

Frames of a video resemble their neighbours, which matters more than the choice of a detector (docs/drift.md).
"""

from recorder.drift.reference import Reference
from recorder.drift.watcher import Alarm, Departure, Watcher

__all__ = ["Alarm", "Departure", "Reference", "Watcher"]
