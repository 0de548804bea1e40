"""The frames of a ring as far as their records have come: those in flight, and the last of each stream."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from recorder.sealer.redacting import stream_name
from recorder.sealer.stages import StageRecord

__all__ = ["SeenFrame", "SeenFrames"]

#: Streams whose last frames are remembered at a time.
MAX_STREAMS = 1_024
#: An operator outside the process cannot say which stream looks wrong; so many of the latest are sealed.
MAX_STREAMS_ASKED = 16
#: Open frames remembered at a time; more means that frames are begun and never ended.
MAX_OPEN_FRAMES = 1_024


@dataclass(slots=True)
class SeenFrame:
    """A frame as far as its records have come."""

    id: int
    stream: str
    time_ns: int
    stages: list[StageRecord] = field(default_factory=list)
    ended: bool = False


class SeenFrames:
    """What a follower remembers of frames; bounded in frames and streams."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, SeenFrame] = OrderedDict()
        self._recent: OrderedDict[str, deque[SeenFrame]] = OrderedDict()
        self.last_stream = ""  #: of the frame that began last

    def begin(self, stage: StageRecord) -> SeenFrame:
        """Take in a frame's first record.

        Raises:
            KeyError, TypeError, ValueError: it does not say what it must.
        """
        frame = SeenFrame(stage.key, stream_name(str(stage.head["stream"])), int(stage.head["time"]), [stage])
        self._open[frame.id] = frame
        if len(self._open) > MAX_OPEN_FRAMES:
            self._open.popitem(last=False)
        self.last_stream = frame.stream
        return frame

    def add(self, stage: StageRecord) -> list[SeenFrame]:
        """Take in a later record, and return the frames in flight that it is about: a batch's are several."""
        numbers = stage.head.get("frames") or [stage.key]
        frames = [frame for number in numbers if (frame := self._open.get(number)) is not None]
        for frame in frames:
            frame.stages.append(stage)
        return frames

    def end(self, frame: SeenFrame) -> None:
        """A frame is complete and no longer in flight; `remember` keeps it."""
        frame.ended = True
        self._open.pop(frame.id, None)

    def remember(self, frame: SeenFrame, kept: int) -> None:
        """Keep a frame among the last ``kept`` of its stream."""
        recent = self._recent.get(frame.stream)
        if recent is None or recent.maxlen != kept:
            recent = deque(recent or (), maxlen=kept)
        recent.append(frame)
        self._recent[frame.stream] = recent
        self._recent.move_to_end(frame.stream)
        if len(self._recent) > MAX_STREAMS:
            self._recent.popitem(last=False)

    def latest_streams(self) -> list[str]:
        """The streams of the last frames, those among them whose first frame is still in flight."""
        in_flight = [frame.stream for frame in self._open.values() if frame.stream not in self._recent]
        return list(dict.fromkeys([*self._recent, *in_flight]))[-MAX_STREAMS_ASKED:]

    def of_stream(self, stream: str) -> list[SeenFrame]:
        """The last frames of a stream, then those in flight."""
        return [*self._recent.get(stream, ()), *(each for each in self._open.values() if each.stream == stream)]

    def find(self, number: int | None, stream: str) -> SeenFrame | None:
        """A frame by its number; without one the newest of the stream. None: it is not remembered."""
        if number is None:
            # Frames of several threads end in another order than they began: the newest is the one that began last.
            return max(self.of_stream(stream), key=lambda frame: frame.id, default=None)
        recent = self._recent.get(stream, ())
        return self._open.get(number) or next((frame for frame in recent if frame.id == number), None)
