"""A ring written and followed in this process, on a clock of its own: the bus without a sealer process."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recorder.capture import describe
from recorder.records import Kind, pack_head
from recorder.ring import CONTEXTS, EVENTS, FRAMES, RingIdentity, RingReader, RingWriter
from recorder.sealer.follower import Follower
from recorder.sealer.window import ClosedWindow
from recorder.triggers import Trigger

HOUR = 3_600.0


class Bus:
    """Writes records as a host does, and lets a follower read them.

    Attributes:
        now: monotonic seconds; tests set it.
        sealed: the windows handed over for sealing.
        events: what the follower reported to the host.
    """

    def __init__(self, directory: Path, *triggers: Trigger, ring_bytes: int = 2**21, **policy: Any) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._ring = RingWriter.create(
            directory / "test.ring",
            frames_bytes=ring_bytes,
            events_bytes=2**18,
            contexts_bytes=2**16,
            identity=RingIdentity.of_this_process(),
        )
        self._reader = RingReader(directory / "test.ring")
        self.now = 1_000.0
        self.sealed: list[ClosedWindow] = []
        self.events: list[dict[str, Any]] = []
        self._ids = itertools.count(1)
        self._streams: dict[int, str] = {}
        self._follower = Follower(self._reader, directory, 2**22, self.events.append, self._seal)
        settings = {
            "pre_frames": 2,
            "post_frames": 0,
            "post_seconds": 5.0,
            "cooldown_seconds": 0.0,
            "dedupe_seconds": 0.0,
            "max_incidents_per_hour": 1_000,
            "max_incidents_per_day": 10_000,
        }
        rules = [{"kind": trigger.kind, "parameters": trigger.parameters} for trigger in triggers]
        self._write(CONTEXTS, Kind.CONFIG, 0, {**settings, **policy, "triggers": rules})

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *exception: object) -> None:
        self._follower.windows.abandon()
        self._reader.close()
        self._ring.close()

    def _seal(self, window: ClosedWindow) -> None:
        self.sealed.append(window)
        window.release()

    def begin(self, stream: str = "", image: np.ndarray[Any, Any] | None = None, **metadata: Any) -> int:
        """Write the beginning of a frame; return its id."""
        number = next(self._ids)
        self._streams[number] = stream
        images: list[dict[str, Any]] = []
        payload = b""
        if image is not None:
            payload = image.tobytes()
            images = [{"name": "image", "source": "array", "offset": 0, "size_bytes": len(payload)}]
        head = {"stream": stream, "time": self._time_ns(), "context": 1, "metadata": metadata, "images": images}
        self._write(FRAMES, Kind.BEGIN, number, head, payload)
        return number

    def end(
        self,
        number: int,
        *,
        latency: float = 0.01,
        answer: Any = None,
        exception: Mapping[str, Any] | None = None,
        **metadata: Any,
    ) -> None:
        """Write the end of a frame and let the follower read."""
        output = describe(answer) if answer is not None else None
        head = {
            "latency": latency,
            "metadata": metadata,
            "output": output.tagged if output is not None else None,
            "exception": dict(exception) if exception is not None else None,
            "lost": {},
        }
        payload = ctypes.create_string_buffer(output.size_bytes) if output is not None else b""
        if output is not None:
            output.copy_to(ctypes.addressof(payload))
        self._write(FRAMES, Kind.END, number, head, bytes(payload))
        self.poll()

    def frame(self, stream: str = "", image: np.ndarray[Any, Any] | None = None, **end: Any) -> int:
        """Write one whole frame."""
        number = self.begin(stream, image)
        self.end(number, **end)
        return number

    def fail(self, stream: str = "", kind: str = "builtins.ValueError", line: int = 7) -> int:
        """Write a frame through which an exception passes."""
        where = f"service:decode:{line}"
        exception = {"type": kind, "message": f"at {self.now}", "stage": "frame", "traceback": [where]}
        return self.frame(stream, exception=exception)

    def ask(self, kind: str = "manual", stream: str | None = "", frame: int | None = None, name: str = "") -> None:
        """Write a trigger, as the host does for manual ones, predicates, an operator's file and signal."""
        head = {
            "incident": name or f"{len(self.events):032x}",
            "kind": kind,
            "reason": "look",
            "severity": "normal",
            "frame": frame,
            "stream": stream,
            "time": self._time_ns(),
            "after": self._ring.last_number(FRAMES),
            "parameters": {"name": "predicate"} if kind == "when" else {},
        }
        self._write(EVENTS, Kind.TRIGGER, 0, head)
        self.poll()

    def poll(self, seconds: float = 0.0) -> None:
        """Let time pass and the follower read."""
        self.now += seconds
        self._follower.poll(self.now)

    def flush(self) -> None:
        """Have the open windows closed."""
        self._write(EVENTS, Kind.FLUSH, 0, {"flush": 1, "after": self._ring.last_number(FRAMES)})
        self.poll()

    @property
    def suppressed(self) -> dict[str, int]:
        """What the host was told about suppressed triggers, by reason."""
        found: dict[str, int] = {}
        for event in self.events:
            if event["event"] == "suppressed":
                found[event["reason"]] = found.get(event["reason"], 0) + event.get("count", 1)
        return found

    @property
    def lost(self) -> dict[str, int]:
        """What the follower counts as lost."""
        return self._follower.losses()

    def kinds(self) -> list[list[str]]:
        """The kinds of the triggers of each sealed incident."""
        return [[trigger.kind for trigger in window.incident.triggers] for window in self.sealed]

    def _time_ns(self) -> int:
        return int(self.now * 1e9)

    def _write(self, region: int, kind: Kind, key: int, head: Mapping[str, Any], payload: bytes = b"") -> None:
        data, start = pack_head(dict(head))
        record = data.ljust(start, b"\0") + payload if payload else data
        reservation = self._ring.reserve(region, kind, key, len(record))
        assert reservation is not None
        ctypes.memmove(reservation.address, record, len(record))
        self._ring.commit(reservation)


def frames_of(window: ClosedWindow) -> list[int]:
    """The ids of a window's frames, in the order they were copied."""
    return [stage.key for stage in window.records if stage.kind == Kind.BEGIN]
