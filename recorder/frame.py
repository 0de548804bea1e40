"""One inference as the caller sees it: a context manager that puts its stages into the ring as they happen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from ctypes import addressof, c_char
from time import monotonic_ns, perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from recorder.capture import Description, align, capture_image, describe, plain_metadata
from recorder.exception_head import exception_head
from recorder.governor import Admission
from recorder.head_template import HeadTemplate, pack_plain_end
from recorder.records import Kind, pack_value

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["Batch", "Frame", "current_group", "frame_metadata"]

_ids = itertools.count(1)
#: Metadata that every frame takes over which begins in this task or thread; set by adapters, around a request.
frame_metadata: ContextVar[dict[str, object] | None] = ContextVar("flight_recorder_frame_metadata", default=None)
_current: ContextVar[Frame | Batch | None] = ContextVar("flight_recorder_frames", default=None)

#: What differs from one beginning to the next of the same stream and image shape; metadata come last.
_BEGIN_HOLES = {"time": "integer", "monotonic": "integer", "context": "integer"}
_BEGIN, _END = int(Kind.BEGIN), int(Kind.END)


def current_group(session: Session | None) -> Frame | Batch | None:
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
        self.ids = (self.id,)
        self.session = session
        self.output: object = None
        around = frame_metadata.get()
        self.metadata: dict[str, object] = {**around, **(metadata or {})} if around else dict(metadata or {})
        self.stream = ""
        self.latency_seconds: float | None = None
        self.exception: BaseException | None = None
        self.admission = Admission.FULL  #: how much of it is recorded, decided when it begins
        self._images = images
        self._sensor_time = sensor_time
        self._began_ns = 0
        self._lost: dict[str, int] = {}
        self._plain: dict[str, Any] = {}
        self._faults = 0
        self._token: Token[Frame | Batch | None] | None = None

    def __setitem__(self, key: str, value: object) -> None:
        self.metadata[key] = value

    def __getitem__(self, key: str) -> object:
        return self.metadata[key]

    def __contains__(self, key: object) -> bool:
        return key in self.metadata

    @property
    def first(self) -> Frame:
        """The frame itself, as of a batch the first."""
        return self

    def __enter__(self) -> Frame:
        session = self.session
        if session is not None:
            began = perf_counter_ns()
            self.open(session)
            session.spent_ns += perf_counter_ns() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session = self.session
        if session is not None:
            began = perf_counter_ns()
            self.close(session, error)
            session.spent_ns += perf_counter_ns() - began

    def open(self, session: Session) -> None:
        """Enter, where the time is counted already: a model's call outside of any frame makes one of its own."""
        self._token = _current.set(self)
        # Written out, here and below: a guard's context manager costs as much as a record's head.
        try:
            self._begin(session)
        except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
            session.fault("begin", error)

    def close(self, session: Session, error: BaseException | None) -> None:
        """Leave, where the time is counted already."""
        token, self._token = self._token, None
        if token is None:
            return
        try:
            _leave(session, token)
            self._end(session, error)
        except Exception as fault:  # noqa: BLE001  # see above
            session.fault("end", fault)

    def _begin(self, session: Session) -> None:
        """Commit the image and what is known before the model runs."""
        self._began_ns = monotonic_ns()
        self._faults = session.faults.total
        self.admission = session.admit(self._began_ns)
        self.stream = str(self.metadata.get(session.stream_key, ""))[:200]
        if session.withheld is not None:
            self.stream = session.withheld.stream(self.stream)
        session.frame_begins(self.id, self.stream)
        self._plain, dropped = plain_metadata(self.metadata)
        if session.withheld is not None:
            self._plain = session.withheld.metadata(self._plain)
        if dropped:
            self._lose(session, "metadata-unsupported", dropped)
        images, self._images = self._images, None  # once the ring has them, the caller's buffers are the caller's again
        if self.admission:
            self._lose(session, "payload-thinned" if self.admission == Admission.WITHOUT_PAYLOAD else "frame-thinned")
            if self.admission == Admission.NOTHING:
                return
            images = None
        if not self._begin_quickly(session, images):
            self._begin_plainly(session, images)

    def _begin_quickly(self, session: Session, images: Mapping[str, object] | None) -> bool:
        """Write the record by a template, if there is one for this stream and image shape; say whether it was."""
        if images:
            image = images.get("image")
            if len(images) > 1 or type(image) is not np.ndarray:
                return False
            known = session.beginnings.get((self.stream, image.shape, image.dtype))
            flags = image.flags
            if known is None or not (flags.c_contiguous and flags.writeable):
                return False
            # A third of the time that the array interface takes; it asks for a writable buffer.
            address = addressof(c_char.from_buffer(image))  # type: ignore[arg-type]  # an array is one
        else:
            known, address = session.beginnings.get((self.stream, None, None)), 0
        if known is None or self._sensor_time is not None:
            return False
        template, size_bytes = known
        head = template.pack_with(time_ns(), self._began_ns, session.contexts.latest, pack_value(self._plain))
        return session.write_packed(_BEGIN, self.id, head, address, size_bytes)

    def _begin_plainly(self, session: Session, images: Mapping[str, object] | None) -> None:
        payload = Description({})
        heads = []
        kept_out = []
        for name, image in (images or {}).items():
            if image is None:
                continue
            try:
                captured = capture_image(str(name)[:64], image)
            except (ValueError, OSError):
                self._lose(session, "image-unsupported")
                continue
            if session.withheld is not None and session.withheld.keeps_out_image(captured.head["name"]):
                kept_out.append(session.withheld.image(captured))
                continue
            payload.leaves.append(captured.leaf)
            payload.offsets.append(align(payload.size_bytes))
            payload.size_bytes = payload.offsets[-1] + captured.leaf.size_bytes
            heads.append({**captured.head, "offset": payload.offsets[-1]})
        head = {
            "stream": self.stream,
            "time": time_ns(),
            "monotonic": self._began_ns,
            "context": session.contexts.latest,
            "metadata": self._plain,
            "sensor_time": plain_metadata({"time": self._sensor_time})[0].get("time"),
            "images": heads,
        }
        if session.withheld is not None:
            head["left_out"] = kept_out
            if session.withheld.keeps_out("sensor_time"):
                head["sensor_time"] = None
        if not session.write(Kind.BEGIN, self.id, head, payload):
            self._lose(session, "image-not-recorded", len(heads))
            left_out = session.describe_left_out(heads, payload)
            session.write(Kind.BEGIN, self.id, {**head, "images": [], "left_out": [*kept_out, *left_out]})
        elif self._sensor_time is None:
            self._learn(session, images, head)

    def _learn(self, session: Session, images: Mapping[str, object] | None, head: Mapping[str, Any]) -> None:
        """Remember the head just written, for frames of the same stream and image shape."""
        template = HeadTemplate(_BEGIN_HOLES, head, last="metadata")
        if not images:
            session.beginnings.learn((self.stream, None, None), template, 0)
            return
        image = images.get("image")
        if len(images) != 1 or type(image) is not np.ndarray or len(head["images"]) != 1:
            return
        if image.flags.c_contiguous and image.dtype.isnative:
            session.beginnings.learn((self.stream, image.shape, image.dtype), template, image.nbytes)

    def _end(self, session: Session, error: BaseException | None) -> None:
        """Commit what was answered, and say that the frame is over."""
        self.exception = error
        if error is not None and not isinstance(error, Exception):
            # A cancelled task (a client that hung up), an interrupt, an exit: the frame was left, it did not fail.
            self._lose(session, "left-early")
            error = None
        self.latency_seconds = (monotonic_ns() - self._began_ns) / 1e9
        metadata = self._plain
        if _differ(self.metadata, metadata):
            metadata, dropped = plain_metadata(self.metadata)
            if session.withheld is not None:
                metadata = session.withheld.metadata(metadata)
            if dropped and "metadata-unsupported" not in self._lost:
                self._lose(session, "metadata-unsupported", dropped)
        session.fire_predicates(self)
        if self.admission == Admission.NOTHING:
            if error is None:
                return
            self._begin_plainly(session, None)  # frames that raise are kept, with what there is
        if self.output is not None or error is not None or self._lost or not self._end_quickly(session, metadata):
            self._end_plainly(session, metadata, error)
        session.frame_ended(self.admission == Admission.FULL, self._faults)

    def _end_quickly(self, session: Session, metadata: dict[str, Any]) -> bool:
        head = pack_plain_end(self.latency_seconds or 0.0, pack_value(metadata))
        return session.write_packed(_END, self.id, head, 0, 0)

    def _end_plainly(self, session: Session, metadata: dict[str, Any], error: BaseException | None) -> None:
        output = describe(self.output) if self.output is not None else None
        exception = exception_head(error, "frame") if error is not None else None
        if session.withheld is not None:
            output = session.withheld.value("output", output) if output is not None else None
            exception = session.withheld.exception(exception) if exception is not None else None
        if output is not None and output.opaque:
            self._lose(session, "output-unsupported", len(output.opaque))
        head = {
            "latency": self.latency_seconds,
            "metadata": metadata,
            "output": output.tagged if output else None,
            "exception": exception,
            "lost": self._lost,
        }
        if not session.write(Kind.END, self.id, head, output):
            head["lost"] = {**self._lost, "output-not-recorded": 1}
            session.write(Kind.END, self.id, {**head, "output": None})

    def _lose(self, session: Session, reason: str, number: int = 1) -> None:
        self._lost[reason] = self._lost.get(reason, 0) + number
        session.lost.add(reason, number)


class Batch(Sequence[Frame]):
    """The items of a dynamic batch in order: frames that are open together."""

    def __init__(self, session: Session | None, frames: Sequence[Frame]) -> None:
        self.session = session
        self.ids = tuple(frame.id for frame in frames)
        self._frames = list(frames)
        self._token: Token[Frame | Batch | None] | None = None

    @property
    def first(self) -> Frame | None:
        """The first frame; None of an empty batch."""
        return self._frames[0] if self._frames else None

    @property
    def admission(self) -> int:
        """How much is recorded: tensors belong to all items, so as much as the fullest item."""
        return min((frame.admission for frame in self._frames), default=Admission.FULL)

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
        with session.guard("end"):
            _leave(session, token)
            for frame in self._frames:
                frame._end(session, error)


def _differ(metadata: dict[str, object], plain: dict[str, Any]) -> bool:
    try:
        return metadata != plain
    except Exception:  # noqa: BLE001  # arrays do not compare to a truth value
        return True


def _leave(session: Session, token: Token[Frame | Batch | None]) -> None:
    try:
        _current.reset(token)
    except ValueError:
        # Left in another task than it was entered in: the variable of that task is not ours to reset.
        session.errors.add("frame-left-elsewhere")
