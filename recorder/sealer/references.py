"""What each stream is compared with: the profile's reference, or one that is learnt while the service warms up."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.drift.file import load_reference, save_reference
from recorder.drift.normal import Normal
from recorder.drift.reference import DEFAULT_FRAMES_PER_FALSE_ALARM, MAX_STREAMS, Reference
from recorder.drift.scores import MAX_MISSING, WATCHED_SIGNALS
from recorder.drift.watcher import Watcher
from recorder.track import NO_CLASS, TRACK_SIGNALS, Row

__all__ = ["References", "Watched", "learnt_path"]

#: Streams watched at a time, 100 kB each with an embedding.
MAX_WATCHED = 64
#: Streams that warm up at a time, 2 kB a frame with an embedding; others wait.
MAX_WARMING = 8

_PLACES = {name: number for number, name in enumerate(TRACK_SIGNALS)}
_COLUMNS = [_PLACES[name] for name in WATCHED_SIGNALS]


@dataclass(slots=True)
class _WarmUp:
    """Frames of one stream, until there are enough."""

    rows: list[npt.NDArray[np.float32]] = field(default_factory=list)
    embeddings: list[npt.NDArray[np.float32] | None] = field(default_factory=list)
    classes: list[str | None] = field(default_factory=list)
    learning: threading.Thread | None = None
    learnt: Normal | None = None
    refused: str | None = None
    has_told: bool = False


@dataclass(slots=True)
class Watched:
    """A stream and its watcher.

    Attributes:
        watcher: compares it with its reference.
        frames_per_false_alarm: the profile's rate, for triggers that state none.
        first_ns: monotonic time of the first frame watched.
        last_ns: and of the latest.
    """

    watcher: Watcher
    frames_per_false_alarm: int
    first_ns: int
    last_ns: int

    def hours(self, frames: int) -> float | None:
        """How long so many frames take at the stream's rate so far; None: it is not known yet."""
        seen = self.watcher.seen
        if seen < 2 or self.last_ns <= self.first_ns:
            return None
        return round(frames * (self.last_ns - self.first_ns) / (seen - 1) / 3.6e12, 3)


class References:
    """The references of one sealer's streams.

    Learning takes a second, in a thread: the ring is read meanwhile.

    Args:
        profile: file of the profile; None: there is none.
        warmup_frames: of each stream without a reference, from which one is learnt; 0: never.
        learnt: where what was learnt is kept for the next sealer; None: nowhere.
        tell: reports faults and news to the host.
    """

    def __init__(
        self,
        profile: Path | None = None,
        warmup_frames: int = 0,
        learnt: Path | None = None,
        tell: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        self._profile = profile
        self._warmup_frames = warmup_frames
        self._path = learnt
        self._tell = tell
        self._known: Reference | None = None
        self._learnt: dict[str, Normal] = {}
        self._is_open = False
        self._watched: OrderedDict[str, Watched] = OrderedDict()
        self._warming: OrderedDict[str, _WarmUp] = OrderedDict()

    @property
    def is_used(self) -> bool:
        """Whether there is, or will be, anything to compare with."""
        return self._profile is not None or self._warmup_frames > 0

    def normal(self, stream: str) -> Normal | None:
        """Return what is normal for a stream; None where that is not known yet."""
        self._open()
        own = self._learnt.get(stream)
        if own is None and self._known is not None:
            own = self._known.of(stream)
        return own

    def watch(self, row: Row, embedding: npt.NDArray[np.float32] | None = None) -> Watched | None:
        """Take in a frame; return its stream's watcher, None where there is no reference yet."""
        values = row.values[_COLUMNS]
        watched = self._watched.get(row.stream)
        if np.isnan(values).all() and embedding is None:
            return watched  # nothing was measured: neither clean nor drifting
        if watched is None:
            normal = self.normal(row.stream) or self._warm_up(row, values, embedding)
            if normal is None:
                return None
            rate = self._known.frames_per_false_alarm if self._known is not None else DEFAULT_FRAMES_PER_FALSE_ALARM
            watched = Watched(Watcher(normal, WATCHED_SIGNALS), rate, row.monotonic_ns, row.monotonic_ns)
            self._watched[row.stream] = watched
            if len(self._watched) > MAX_WATCHED:
                self._watched.popitem(last=False)
        self._watched.move_to_end(row.stream)
        watched.last_ns = row.monotonic_ns
        watched.watcher.update(row.frame, values, None if embedding is None else embedding.astype(np.float64))
        return watched

    def settle(self) -> None:
        """Wait for what is being learnt."""
        for warming in self._warming.values():
            if warming.learning is not None:
                warming.learning.join()

    def _warm_up(
        self, row: Row, values: npt.NDArray[np.float32], embedding: npt.NDArray[np.float32] | None
    ) -> Normal | None:
        stream = row.stream
        if not self._warmup_frames or len(self._learnt) >= MAX_STREAMS:
            return None
        warming = self._warming.get(stream)
        if warming is None:
            if len(self._warming) >= MAX_WARMING:
                return None
            warming = self._warming[stream] = _WarmUp()
        if warming.learning is not None:
            return self._take_lesson(stream, warming)
        warming.rows.append(values)
        warming.embeddings.append(embedding)
        warming.classes.append(None if row.top_class == NO_CLASS else str(row.top_class))
        if len(warming.rows) >= self._warmup_frames:
            warming.learning = threading.Thread(target=_learn, args=(warming, _seed(stream)), name="learning")
            warming.learning.start()
        return None

    def _take_lesson(self, stream: str, warming: _WarmUp) -> Normal | None:
        """Look whether the thread is done, and what came of it."""
        if warming.learning is None or warming.learning.is_alive():
            return None
        warming.learning = None
        if warming.learnt is None:
            # The older half may be what does not belong there: the lamp that was still warming up.
            kept = self._warmup_frames // 2
            warming.rows, warming.embeddings = warming.rows[-kept:], warming.embeddings[-kept:]
            warming.classes = warming.classes[-kept:]
            if not warming.has_told:
                warming.has_told = True
                why = f"stream {stream!r}: {warming.refused}"
                self._tell({"event": "fault", "reason": "warm-up-refused", "detail": why[:500]})
            return None
        del self._warming[stream]
        self._learnt[stream] = warming.learnt
        self._tell({"event": "learnt", "streams": len(self._learnt)})
        if self._path is not None:
            with contextlib.suppress(OSError):  # then the next sealer learns again
                save_reference(Reference(self._learnt), self._path)
        return warming.learnt

    def _open(self) -> None:
        """Read the files when they are first needed."""
        if self._is_open:
            return
        self._is_open = True
        if self._profile is not None:
            try:
                self._known = load_reference(self._profile)
            except (OSError, ValueError) as error:
                why = f"{self._profile}: {error}"
                self._tell({"event": "fault", "reason": "profile-unreadable", "detail": why[:500]})
        if self._path is not None and self._warmup_frames:
            with contextlib.suppress(OSError, ValueError):  # it is learnt again
                self._learnt = dict(load_reference(self._path).streams)
                self._tell({"event": "learnt", "streams": len(self._learnt)})


def learnt_path(directory: Path, rings: Path) -> Path:
    """Return where, in a sink's directory, what a ring directory's sealer has learnt is kept."""
    seed = f"{os.uname().nodename} {os.geteuid()} {rings}"
    return directory / f".learnt-{hashlib.sha256(seed.encode()).hexdigest()[:16]}.json"


def _seed(stream: str) -> int:
    return int.from_bytes(hashlib.sha256(stream.encode(errors="replace")).digest()[:4], "big")


def _learn(warming: _WarmUp, seed: int) -> None:
    given = [each for each in warming.embeddings if each is not None]
    embeddings = None
    # A frame without one, or whose embedding was not finite, is no reason to learn nothing of the others'.
    if len(given) >= (1 - MAX_MISSING) * len(warming.rows) and len({len(each) for each in given}) == 1:
        none = np.full(len(given[0]), np.nan, np.float32)
        embeddings = np.stack([none if each is None else each for each in warming.embeddings])
    try:
        rows = np.stack(warming.rows)
        learnt = Reference.fit(rows, WATCHED_SIGNALS, embeddings, classes=warming.classes, seed=seed)
        warming.learnt = learnt.streams[""]
    except (ValueError, np.linalg.LinAlgError) as error:
        warming.refused = str(error)
