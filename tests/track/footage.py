"""A host's recording with a clock of its own: frames of hours are in the ring within seconds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.records import Kind, pack_head
from recorder.ring import CONTEXTS, EVENTS, FRAMES, RingIdentity, RingReader, RingWriter
from recorder.sealer.follower import Follower
from recorder.sealer.tracking import Tracking
from recorder.sealer.window import ClosedWindow
from recorder.settings import SealerSettings

__all__ = ["Footage", "grey", "settings"]

_T0_NS = 1_760_000_000_000_000_000
_MONOTONIC_0_NS = 5_000 * 10**9


def settings(sink: Path, **changes: Any) -> SealerSettings:
    """What a sealer with a track is started with."""
    plain: dict[str, Any] = {
        "sink": str(sink),
        "sink_options": {},
        "notify": None,
        "spool_bytes": 2**20,
        "track_bytes": 2**20,
        "history_seconds": 3600.0,
    }
    return SealerSettings(**{**plain, **changes})


def grey(level: float, size: int = 24) -> npt.NDArray[np.uint8]:
    """A colour image of one brightness between 0 and 1, with a little texture."""
    random = np.random.default_rng(int(level * 1e6))
    return np.clip(level * 255 + random.normal(0, 2, (size, size, 3)), 0, 255).astype(np.uint8)


class Footage:
    """A ring that frames are written into as a host would, and a follower that reads it.

    Args:
        path: of the ring.
        history_seconds: of the track.
        track_bytes: of the track.
    """

    def __init__(self, path: Path, *, history_seconds: float = 3600.0, track_bytes: int = 2**20) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.seconds = 0.0
        self.wall_offset_seconds = 0.0
        self.windows: list[ClosedWindow] = []
        self._ids = itertools.count(1)
        self._settings = settings(path.parent, history_seconds=history_seconds, track_bytes=track_bytes)
        self.ring = RingWriter.create(
            path,
            frames_bytes=2**20,
            events_bytes=64 * 2**10,
            contexts_bytes=64 * 2**10,
            identity=RingIdentity.of_this_process("tests"),
        )
        window = {
            "pre_frames": 4, "post_frames": 0, "post_seconds": 0.0, "cooldown_seconds": 0.0, "dedupe_seconds": 0.0,
            "max_incidents_per_hour": 1_000, "max_incidents_per_day": 1_000, "triggers": [],
        }  # fmt: skip
        self._write(CONTEXTS, Kind.CONFIG, 0, window)
        self.start_sealer()

    def start_sealer(self) -> None:
        """Begin to follow, as a sealer process does at its start."""
        self.reader = RingReader(self.path)
        tracking = Tracking.of_ring(self.reader, self._settings)
        assert tracking is not None
        tracking._cpu_share = 1e9  # hours pass within seconds here: the share of a real second says nothing
        self.tracking = tracking
        self.follower = Follower(
            self.reader, self.path.parent, 2**20, lambda event: None, self.windows.append, tracking=self.tracking
        )

    def stop_sealer(self) -> None:
        """Drop everything the sealer has in memory."""
        self.tracking.close()
        self.reader.close()

    def close(self) -> None:
        """Give everything back."""
        for window in self.windows:
            window.release()
        self.stop_sealer()
        self.ring.close()

    def frame(
        self,
        image: npt.NDArray[np.uint8] | None,
        *,
        stream: str = "line-3",
        latency: float = 0.02,
        raised: bool = False,
    ) -> int:
        """Write a frame that takes place at ``self.seconds``; return its id."""
        number = next(self._ids)
        images = []
        if image is not None:
            height, width, channels = image.shape
            images = [
                {
                    "name": "image", "source": "array", "encoding": "pixels", "height": height, "width": width,
                    "channels": channels, "dtype": "uint8", "size_bytes": image.nbytes, "offset": 0,
                }
            ]  # fmt: skip
        time_ns = _T0_NS + int((self.seconds + self.wall_offset_seconds) * 1e9)
        begin = {
            "stream": stream, "time": time_ns, "monotonic": _MONOTONIC_0_NS + int(self.seconds * 1e9), "context": 0,
            "metadata": {}, "sensor_time": None, "images": images,
        }  # fmt: skip
        self._write(FRAMES, Kind.BEGIN, number, begin, b"" if image is None else image.tobytes())
        exception = {"type": "ValueError", "message": "bad", "stage": "frame", "traceback": []} if raised else None
        end = {"latency": latency, "metadata": {}, "output": None, "exception": exception, "lost": {}}
        self._write(FRAMES, Kind.END, number, end)
        return number

    def play(
        self, seconds: Iterable[float], image: Callable[[float], npt.NDArray[np.uint8] | None], **frame: Any
    ) -> None:
        """Write a frame at each of these times and let the sealer follow."""
        for number, moment in enumerate(seconds):
            self.seconds = moment
            self.frame(image(moment), **frame)
            if number % 16 == 15:
                self.follower.poll(0.0)
        self.follower.poll(0.0)

    def incident(self, stream: str = "line-3") -> ClosedWindow:
        """Trigger, and return the window that closes at once."""
        head = {
            "incident": f"{len(self.windows) + 1:032x}", "kind": "manual", "reason": "look", "severity": "normal",
            "frame": None, "stream": stream, "time": _T0_NS, "after": self.ring.last_number(FRAMES), "parameters": {},
        }  # fmt: skip
        self._write(EVENTS, Kind.TRIGGER, 0, head)
        self.follower.poll(0.0)
        return self.windows[-1]

    def _write(self, region: int, kind: Kind, key: int, head: dict[str, Any], payload: bytes = b"") -> None:
        data, start = pack_head(head)
        data = data.ljust(start, b"\0") + payload if payload else data
        reservation = self.ring.reserve(region, kind, key, len(data))
        assert reservation is not None
        reservation.view[:] = data
        self.ring.commit(reservation)
