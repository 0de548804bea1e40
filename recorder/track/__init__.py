"""The compact track: what every frame was like, back over the last hour, in a few megabytes beside the ring."""

from __future__ import annotations

from recorder.track.decimation import LEVELS, Decimator, Interval, Level
from recorder.track.layout import TrackInvalid, TrackUnavailable, track_path
from recorder.track.reader import TrackReader, TrackView
from recorder.track.row import NO_CLASS, RAISED, ROW_SECONDS, TRACK_SIGNALS, Row
from recorder.track.writer import TrackWriter

__all__ = [
    "Decimator",
    "Interval",
    "LEVELS",
    "Level",
    "NO_CLASS",
    "RAISED",
    "ROW_SECONDS",
    "Row",
    "TRACK_SIGNALS",
    "TrackInvalid",
    "TrackReader",
    "TrackUnavailable",
    "TrackView",
    "TrackWriter",
    "track_path",
]
