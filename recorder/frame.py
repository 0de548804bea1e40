"""One inference as the caller sees it: a context manager that puts its stages into the ring as they happen."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from recorder.capture import Description, align, capture_image, describe, plain_metadata
from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["Batch", "Frame", "current_group", "exception_head"]

#: Outermost traceback entries kept of an exception; recursion errors have thousands.
MAX_TRACEBACK_ENTRIES = 64
MAX_MESSAGE_CHARS = 2_000

_ids = itertools.count(1)
_current: ContextVar[Batch | None] = ContextVar("flight_recorder_frames", default=None)


def current_group(session: Session | None) -> Batch | None:
    """Return the frames that are open in this thread or task for a session, None outside of any."""
    group = _current.get()
    return group if group is not None and group.session is session else None


class Frame:
    """One inference.

    Used as a context manager around the model call; calls of attached models inside it join the frame.

    Attributes:
        id: a sequence number of this process.
        output: what the service answered; set it to any nesting of tensors, arrays and plain values.
        metadata: JSON-like values; ``frame["key"] = value`` sets one.
    """

    def __init__(
        self,
        session: Session | None,
        *,
        images: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        sensor_time: object = None,
    ) -> None:
        self.id = next(_ids)
        self.output: object = None
        self.metadata: dict[str, object] = dict(metadata or {})
        self.stream = ""
        self.latency_seconds: float | None = None
        self.exception: BaseException | None = None
        self._session = session
        self._images = images
        self._sensor_time = sensor_time
        self._began_ns = 0
        self._lost: dict[str, int] = {}
        self._group: Batch | None = None

    def __setitem__(self, key: str, value: object) -> None:
        self.metadata[key] = value

    def __getitem__(self, key: str) -> object:
        return self.metadata[key]

    def __contains__(self, key: object) -> bool:
        return key in self.metadata

    def __enter__(self) -> Frame:
        self._group = Batch(self._session, [self])
        self._group.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._group is not None:
            self._group.__exit__(kind, error, traceback)
            self._group = None

    def _begin(self, session: Session) -> None:
        """Commit the image and what is known before the model runs."""
        self._began_ns = time.monotonic_ns()
        self.stream = str(self.metadata.get(session.stream_key, ""))[:200]
        metadata, dropped = plain_metadata(self.metadata)
        if dropped:
            self._lose(session, "metadata-unsupported", dropped)
        payload = Description({})
        heads = []
        for name, image in (self._images or {}).items():
            if image is None:
                continue
            try:
                captured = capture_image(str(name)[:64], image)
            except (ValueError, OSError):
                self._lose(session, "image-unsupported")
                continue
            payload.leaves.append(captured.leaf)
            payload.offsets.append(align(payload.size_bytes))
            payload.size_bytes = payload.offsets[-1] + captured.leaf.size_bytes
            heads.append({**captured.head, "offset": payload.offsets[-1]})
        self._images = None  # the ring has them; the caller's buffers are the caller's again
        head = {
            "stream": self.stream,
            "time": time.time_ns(),
            "monotonic": self._began_ns,
            "context": session.contexts.current(),
            "metadata": metadata,
            "sensor_time": plain_metadata({"time": self._sensor_time})[0].get("time"),
            "images": heads,
        }
        if not session.write(Kind.BEGIN, self.id, head, payload):
            self._lose(session, "image-not-recorded", len(heads))
            session.write(Kind.BEGIN, self.id, {**head, "images": []})

    def _end(self, session: Session, error: BaseException | None) -> None:
        """Commit what was answered, and say that the frame is over."""
        self.exception = error
        self.latency_seconds = (time.monotonic_ns() - self._began_ns) / 1e9
        metadata, dropped = plain_metadata(self.metadata)
        if dropped and "metadata-unsupported" not in self._lost:
            self._lose(session, "metadata-unsupported", dropped)
        output = describe(self.output) if self.output is not None else None
        if output is not None and output.opaque:
            self._lose(session, "output-unsupported", len(output.opaque))
        session.fire_predicates(self)
        head = {
            "latency": self.latency_seconds,
            "metadata": metadata,
            "output": output.tagged if output else None,
            "exception": exception_head(error, "frame") if error is not None else None,
            "lost": self._lost,
        }
        if not session.write(Kind.END, self.id, head, output):
            head["lost"] = {**self._lost, "output-not-recorded": 1}
            session.write(Kind.END, self.id, {**head, "output": None})
        session.frame_ended()

    def _lose(self, session: Session, reason: str, number: int = 1) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + number
        session.lost.add(reason, number)


class Batch(Sequence[Frame]):
    """The frames that are open together: one, or the items of a dynamic batch in order."""

    def __init__(self, session: Session | None, frames: Sequence[Frame]) -> None:
        self.session = session
        self.ids = [frame.id for frame in frames]
        self._frames = list(frames)
        self._token: Token[Batch | None] | None = None

    def __getitem__(self, index: Any) -> Any:
        return self._frames[index]

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def __enter__(self) -> Batch:
        session = self.session
        if session is not None:
            self._token = _current.set(self)
            with session.guard("begin"):
                for frame in self._frames:
                    frame._begin(session)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, token = self.session, self._token
        self._token = None
        if session is None or token is None:
            return
        try:
            _current.reset(token)
        except ValueError:
            # Left in another task than it was entered in: the variable of that task is not ours to reset.
            session.errors.add("frame-left-elsewhere")
        with session.guard("end"):
            for frame in self._frames:
                frame._end(session, error)


def exception_head(error: BaseException, stage: str) -> dict[str, Any]:
    """Describe an exception without its source lines, paths or a call of its ``__repr__``."""
    kind = type(error)
    try:
        message = str(error)[:MAX_MESSAGE_CHARS]
    except Exception:  # noqa: BLE001  # a host's __str__ may do anything
        message = ""
    entries: list[str] = []
    traceback = error.__traceback__
    while traceback is not None and len(entries) < MAX_TRACEBACK_ENTRIES:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", "?"))
        entries.append(f"{module}:{frame.f_code.co_qualname}:{traceback.tb_lineno}"[:300])
        traceback = traceback.tb_next
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}"[:300],
        "message": message,
        "stage": stage,
        "traceback": entries,
    }
