"""One inference as the caller sees it: a context manager that puts its stages into the ring as they happen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from time import monotonic_ns, perf_counter_ns, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from recorder.bundle.values import JsonValue
from recorder.capture import describe, plain_metadata
from recorder.exception_head import exception_head
from recorder.governor import Admission
from recorder.head_template import HeadTemplate, Hole
from recorder.records import Kind, pack_value

if TYPE_CHECKING:
    from recorder.batch import Batch
    from recorder.session import Session

__all__ = ["Frame", "current_group", "enter", "frame_metadata", "frame_sources", "leave"]

_ids = itertools.count(1)
#: Metadata that every frame takes over which begins in this task or thread; set by adapters, around a request.
frame_metadata: ContextVar[dict[str, object] | None] = ContextVar("flight_recorder_frame_metadata", default=None)
#: Asked for more of it when a frame begins; added to by adapters, once a process. What they raise costs the metadata.
frame_sources: list[Callable[[], Mapping[str, object] | None]] = []
_current: ContextVar[Frame | Batch | None] = ContextVar("flight_recorder_frames", default=None)

#: What most frames have lost, and frames that are made for a call have of metadata; nobody writes to it.
_NONE: dict[str, Any] = {}
_BEGIN, _END = int(Kind.BEGIN), int(Kind.END)
_PLAIN_END = HeadTemplate(
    {"latency": Hole.FLOAT, "output": None, "exception": None, "lost": {}, "metadata": None}, last="metadata"
)


def enter(group: Frame | Batch) -> Token[Frame | Batch | None]:
    """Make frames the open ones of this thread or task; `leave` takes what this returns."""
    return _current.set(group)


def leave(session: Session, token: Token[Frame | Batch | None]) -> None:
    """Make the frames the open ones that were so before."""
    try:
        _current.reset(token)
    except ValueError:
        # Left in another task than it was entered in: the variable of that task is not ours to reset.
        session.errors.add("frame-left-elsewhere")


def _from_sources(session: Session) -> dict[str, object]:
    found: dict[str, object] = {}
    for source in frame_sources:
        try:
            found |= source() or {}
        except Exception:  # noqa: BLE001  # whatever an adapter's library raises must not reach the host
            session.errors.add("frame-source")
    return found


def current_group(session: Session | None) -> Frame | Batch | None:
    """Return the frames that were entered in this thread or task for a session and not left since, None outside of any.

    Not those made for a call (`recorder.hooks.call.frames_at_hand`). A task may outlive the frame that it was begun in,
    and a generator that leaves a frame late brings back one that was left before: their calls get frames of their own.
    """
    group = _current.get()
    return group if group is not None and group.session is session and group.is_entered else None


class Frame:
    """One inference.

    Used as a context manager around the model call; calls of attached models inside it join the frame. A call outside
    of any frame makes one of its own, whose beginning and end share the records of the call (`recorder.hooks.call`).

    Attributes:
        id: a sequence number of this process.
        output: what the service answered; set it to any nesting of tensors, arrays and plain values.
        metadata: JSON-like values; ``frame["key"] = value`` sets one.
    """

    # A dictionary only where the host gives the frame attributes of its own: one is made for every call.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_faults",
        "_images",
        "_is_open",
        "_lost",
        "_token",
        "admission",
        "began_ns",
        "exception",
        "id",
        "ids",
        "latency_seconds",
        "metadata",
        "output",
        "plain_metadata",
        "sensor_time",
        "session",
        "stream",
    )

    def __init__(
        self,
        session: Session | None,
        *,
        images: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        sensor_time: object = None,
    ) -> None:
        self.id = number = next(_ids)
        self.ids = (number,)
        self.session = session
        self.output: object = None
        around = frame_metadata.get()
        self.metadata: dict[str, object] = {**around, **(metadata or {})} if around else dict(metadata or ())
        if frame_sources and session is not None:
            for key, value in _from_sources(session).items():
                self.metadata.setdefault(key, value)
        self.stream = ""
        self.latency_seconds: float | None = None
        self.exception: BaseException | None = None
        self.admission = Admission.FULL  #: how much of it is recorded, decided when it begins
        self._images = images
        self.sensor_time = sensor_time
        self.began_ns = 0
        self._lost: Mapping[str, int] = _NONE
        self.plain_metadata: Mapping[str, Any] = _NONE
        self._faults = 0
        self._is_open = False
        self._token: Token[Frame | Batch | None] | None = None

    @property
    def is_entered(self) -> bool:
        """Whether it was entered and has not been left."""
        return self._token is not None

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
            clock = perf_counter_ns()
            self._is_open = True
            self._token = _current.set(self)
            # Written out, here and below: a guard's context manager costs as much as a record's head.
            try:
                self.begin(session)
            except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
                session.fault("begin", error)
            session.spent_ns += perf_counter_ns() - clock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session = self.session
        if session is not None:
            clock = perf_counter_ns()
            self.close(session, error)
            session.spent_ns += perf_counter_ns() - clock

    def close(self, session: Session, error: BaseException | None) -> None:
        """Leave, where the time is counted already."""
        if not self._is_open:
            return
        try:
            self._leave(session)
            self.end(session, error)
        except Exception as fault:  # noqa: BLE001  # see above
            session.fault("end", fault)

    def begin(self, session: Session) -> None:
        """Commit the image and what is known before the model runs."""
        self._prepare(session)
        images, self._images = self._images, None  # once the ring has them, the caller's buffers are the caller's again
        if self.admission:
            if self.admission == Admission.NOTHING:
                return
            images = None
        session.beginnings.write(session, self, images)

    def open_around_call(self, session: Session, *, enters: bool) -> None:
        """Open without a record: the call that the frame is made for writes `beginning` into its own.

        Args:
            session: the recording.
            enters: whether it becomes the open frame of this task; of a thread the open calls tell that.
        """
        self._is_open = True
        if enters:
            self._token = _current.set(self)
        self._prepare(session)

    def beginning(self, session: Session) -> dict[str, Any]:
        """Return the head of the beginning of a frame without images."""
        return {
            "stream": self.stream,
            "time": time_ns(),
            "monotonic": self.began_ns,
            "context": session.contexts.latest,
            "metadata": self.plain_metadata,
            "sensor_time": self._plain_sensor_time(session),
            "images": [],
        }

    def _plain_sensor_time(self, session: Session) -> JsonValue:
        if session.withheld is not None and session.withheld.keeps_out("sensor_time"):
            return None
        return plain_metadata({"time": self.sensor_time})[0].get("time")

    def begin_alone(self, session: Session) -> None:
        """Commit the beginning of a frame whose call could not take it along."""
        session.records.write(Kind.BEGIN, self.id, self.beginning(session))

    def ending(self) -> dict[str, Any]:
        """Return the head of the end of a frame that was made for a call, which has just returned."""
        return {
            "latency": self.take_time(),
            "metadata": self.plain_metadata,
            "output": None,
            "exception": None,
            "lost": self._lost,
        }

    def take_time(self) -> float:
        """Return the frame's latency in seconds, as of now."""
        self.latency_seconds = latency = (monotonic_ns() - self.began_ns) / 1e9
        return latency

    def close_around_call(self, session: Session) -> None:
        """Leave a frame whose end the call's record holds."""
        self._leave(session)
        session.frame_ended(self.admission == Admission.FULL, self._faults)

    def end(self, session: Session, error: BaseException | None) -> None:
        """Commit what was answered, and say that the frame is over."""
        self.exception = error
        if error is not None and not isinstance(error, Exception):
            # A cancelled task (a client that hung up), an interrupt, an exit: the frame was left, it did not fail.
            self.lose(session, "left-early")
            error = None
        latency = self.take_time()
        metadata = self.plain_metadata
        if _differ(self.metadata, metadata):
            metadata, dropped = plain_metadata(self.metadata)
            if session.withheld is not None:
                metadata = session.withheld.metadata(metadata)
            if dropped and "metadata-unsupported" not in self._lost:
                self.lose(session, "metadata-unsupported", dropped)
        if session.predicates:
            session.fire_predicates(self)
        if self.admission == Admission.NOTHING:
            if error is None:
                return
            self.begin_alone(session)  # frames that raise are kept, with what there is
        if (
            self.output is not None
            or error is not None
            or self._lost
            or not session.records.append(_END, self.id, _PLAIN_END.pack_with(pack_value(metadata), latency))
        ):
            self._end_plainly(session, metadata, error)
        session.frame_ended(self.admission == Admission.FULL, self._faults)

    def _leave(self, session: Session) -> None:
        self._is_open = False
        if self._token is not None:
            token, self._token = self._token, None
            leave(session, token)

    def _prepare(self, session: Session) -> None:
        """Decide how much of it is recorded, and in whose share of the ring."""
        self.began_ns = now_ns = monotonic_ns()
        self._faults = session.faults.total
        self.admission = admission = session.admit(now_ns)
        metadata = self.metadata
        if metadata:
            try:
                self.stream = str(metadata.get(session.stream_key, ""))[:200]
            except Exception:  # noqa: BLE001  # the host's own; the metadata has lost it too, and counts it
                self.stream = ""
            self.plain_metadata, dropped = plain_metadata(metadata)
            if session.withheld is not None:
                self.stream = session.withheld.stream(self.stream)
                self.plain_metadata = session.withheld.metadata(self.plain_metadata)
            if dropped:
                self.lose(session, "metadata-unsupported", dropped)
        session.records.frame_begins(self.id, self.stream)
        if admission:
            self.lose(session, "payload-thinned" if admission == Admission.WITHOUT_PAYLOAD else "frame-thinned")

    def _end_plainly(self, session: Session, metadata: Mapping[str, Any], error: BaseException | None) -> None:
        output = describe(self.output) if self.output is not None else None
        exception = exception_head(error, "frame") if error is not None else None
        if session.withheld is not None:
            output = session.withheld.value("output", output) if output is not None else None
            exception = session.withheld.exception(exception) if exception is not None else None
        if output is not None and output.opaque:
            self.lose(session, "output-unsupported", len(output.opaque))
        head = {
            "latency": self.latency_seconds,
            "metadata": metadata,
            "output": output.tagged if output else None,
            "exception": exception,
            "lost": self._lost,
        }
        if not session.records.write(Kind.END, self.id, head, output):
            head["lost"] = {**self._lost, "output-not-recorded": 1}
            session.records.write(Kind.END, self.id, {**head, "output": None})

    def lose(self, session: Session, reason: str, number: int = 1) -> None:
        self._lost = {**self._lost, reason: self._lost.get(reason, 0) + number}
        session.lost.add(reason, number)


def _differ(metadata: Mapping[str, object], plain: Mapping[str, Any]) -> bool:
    try:
        return metadata != plain
    except Exception:  # noqa: BLE001  # arrays do not compare to a truth value
        return True
