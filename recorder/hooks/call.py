"""One recorded call, whatever was called: its place among the open calls of the thread, and its two records.

Where the call is made outside of any frame, a frame of its own is made: its beginning stands in the record of the
inputs, its end in the record of the output. So such a call takes two records as any other.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic_ns
from types import FrameType
from typing import TYPE_CHECKING, Any

from recorder.bundle.manifest import CallSettings
from recorder.capture import Description, describe, without_tensors
from recorder.exception_head import exception_head
from recorder.frame import Frame, current_group
from recorder.governor import Admission
from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.batch import Batch
    from recorder.session import Session

__all__ = [
    "OpenCall",
    "begin",
    "drop_stale",
    "end",
    "frames_at_hand",
    "open_calls",
    "pop",
    "write_input",
    "write_output",
]


#: Outputs of thinned frames are kept up to this: triggers look at them, and they cost as little as the metadata.
MAX_THINNED_OUTPUT_BYTES = 64 * 2**10
_NOTHING = Admission.NOTHING
_THINNED = "left out to keep within overhead_budget"


@dataclass(slots=True)
class OpenCall:
    """A call between its beginning and its end."""

    session: Session
    id: int
    model: int
    #: The interpreter frame the call happens in, held so that its identity stays unique; None of a coroutine.
    python_frame: FrameType | None
    implicit: Frame | None  #: the frame made for it, where the host had opened none
    frames: tuple[int, ...]
    key: int
    parent: int | None
    started_ns: int
    signature: str | None  #: of a call no graph was exported for yet
    admission: int  #: of its frames
    is_begun: bool  #: whether the beginnings of its frames are in the ring

    def beginning(self, session: Session) -> dict[str, Any] | None:
        """Return the head of the frame's beginning where it is to stand in the record of the inputs, else None."""
        return None if self.is_begun or self.implicit is None else self.implicit.beginning(session)

    def ending(self, session: Session) -> dict[str, Any] | None:
        """Return the head of the frame's end where it is to stand in the record of the output, else None.

        Not where predicates look at the frame before its end is written.
        """
        return None if self.implicit is None or session.predicates else self.implicit.ending()


class _Stack(threading.local):
    """The open calls of this thread, outermost first. A call is synchronous: a thread-local says it."""

    def __init__(self) -> None:
        self.calls: list[OpenCall] = []


_stack = _Stack()


def open_calls() -> list[OpenCall]:
    """Return the open calls of this thread, outermost first."""
    return _stack.calls


def frames_at_hand(session: Session | None) -> Frame | Batch | None:
    """Return the frames that a call made now on this thread or task belongs to, None where it gets one of its own."""
    group = current_group(session)
    if group is None:
        for call in reversed(_stack.calls):
            if call.implicit is not None and call.session is session:
                return call.implicit
    return group


def begin(session: Session, python_frame: FrameType | None) -> OpenCall:
    """Open a call in the frame at hand, or in a frame of its own.

    Args:
        session: the recording.
        python_frame: the interpreter frame that makes the call and will end it; calls made meanwhile on this thread are
            its children. None of a coroutine, which takes turns with others on one thread: it has no children.
    """
    calls = _stack.calls
    parent = None
    if calls and python_frame is not None:
        drop_stale(python_frame)
        parent = calls[-1].id if calls else None
    group = frames_at_hand(session) if calls else current_group(session)
    implicit = None
    if group is None:
        group = implicit = Frame(session)
        implicit.open_around_call(session, enters=python_frame is None)
    ids = group.ids
    admission = group.admission
    call = OpenCall(
        session,
        session.next_call(),
        0,
        python_frame,
        implicit,
        ids,
        ids[0] if ids else 0,
        parent,
        0,
        None,
        admission,
        implicit is None or admission == _NOTHING,
    )
    if python_frame is not None:
        calls.append(call)
    return call


def write_input(
    session: Session,
    call: OpenCall,
    settings: CallSettings,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    random_state: object = None,
    state: Mapping[str, object] | None = None,
) -> tuple[dict[str, Any], Description] | None:
    """Commit what the call was given, of a thinned frame its structure; takes anything.

    Returns:
        The record's head and what it describes; None when the ring had no room for it.
    """
    described = describe((args, kwargs, random_state) if state is None else (args, kwargs, random_state, state))
    if session.withheld is not None:
        described = session.withheld.arguments(described)
    args_tagged, kwargs_tagged, random_tagged, *state_tagged = described.tagged["tuple"]
    head = {
        "call": call.id,
        "model": call.model,
        "context": session.contexts.current(),
        "frames": call.frames,
        "parent": call.parent,
        "settings": {
            "training": settings.training,
            "grad_enabled": settings.grad_enabled,
            "inference_mode": settings.inference_mode,
            "autocast": settings.autocast,
        },
        "args": args_tagged,
        "kwargs": kwargs_tagged,
        "rng": random_tagged if random_state is not None else None,
        "started": monotonic_ns(),
    }
    if state_tagged:
        head["state"] = state_tagged[0]
    if described.opaque:
        session.lost.add("input-unsupported", len(described.opaque))
    if call.admission:
        head = _without_tensors(head, _THINNED)
        return (head, described) if _write_input(session, call, head, None) else None
    if _write_input(session, call, head, described):
        return head, described
    session.lost.add("input-not-recorded")
    _write_input(session, call, _without_tensors(head, described.why_refused), None)
    return None


def _write_input(session: Session, call: OpenCall, head: dict[str, Any], payload: Description | None) -> bool:
    begin = call.beginning(session)
    if begin is None:
        return session.records.write(Kind.INPUT, call.key, head, payload)
    begin["context"] = head["context"]
    call.is_begun = session.records.write(Kind.STAGES, call.key, {"begin": begin, "input": head}, payload)
    return call.is_begun


def write_output(
    session: Session, call: OpenCall, latency_seconds: float, output: object, error: BaseException | None
) -> tuple[dict[str, Any], Description] | None:
    """Commit what the call gave, or the exception it raised; takes anything.

    Returns:
        The record's head and what it describes; None when it was not kept whole.
    """
    head: dict[str, Any] = {"call": call.id, "frames": call.frames, "latency": latency_seconds}
    if error is not None:
        exception = exception_head(error, "model")
        if session.withheld is not None:
            exception = session.withheld.exception(exception)
        session.records.write(Kind.OUTPUT, call.key, {**head, "exception": exception})
        return None
    described = describe(output)
    if session.withheld is not None:
        described = session.withheld.value("model_output", described)
    head["output"] = described.tagged
    if described.opaque:
        session.lost.add("output-unsupported", len(described.opaque))
    if call.admission and described.size_bytes > MAX_THINNED_OUTPUT_BYTES:
        _write_output(session, call, {**head, "output": without_tensors(described.tagged, _THINNED)}, None)
        return None
    if _write_output(session, call, head, described):
        return head, described
    session.lost.add("output-not-recorded")
    left = without_tensors(described.tagged, described.why_refused)
    _write_output(session, call, {**head, "output": left}, None)
    return None


def _write_output(session: Session, call: OpenCall, head: dict[str, Any], payload: Description | None) -> bool:
    end = call.ending(session)
    if end is None:
        return session.records.write(Kind.OUTPUT, call.key, head, payload)
    if not session.records.write(Kind.STAGES, call.key, {"output": head, "end": end}, payload):
        return False
    implicit, call.implicit = call.implicit, None
    if implicit is not None:
        implicit.close_around_call(session)
    return True


def _without_tensors(head: dict[str, Any], why: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: without_tensors(head[name], why) for name in ("args", "kwargs", "state") if name in head
    }
    return {**head, **values, "rng": None}


def end(session: Session, call: OpenCall, error: BaseException | None) -> None:
    """Close the frame that was made for the call, if one is still open; the time is counted already."""
    if call.implicit is not None:
        if not call.is_begun:
            call.is_begun = True
            call.implicit.begin_alone(session)
        call.implicit.close(session, error)


def pop(python_frame: FrameType) -> OpenCall | None:
    """Take the open call that this interpreter frame began; forget those above it that were left without a word."""
    calls = _stack.calls
    while calls:
        call = calls.pop()
        if call.python_frame is python_frame:
            return call
        if call.implicit is not None:
            call.implicit.__exit__(None, None, None)
    return None


def drop_stale(python_frame: FrameType) -> None:
    """Forget calls that were left by an exception that runs no hooks, such as KeyboardInterrupt."""
    calls = _stack.calls
    while calls and not _is_below(calls[-1].python_frame, python_frame):
        implicit = calls.pop().implicit
        if implicit is not None:
            implicit.__exit__(None, None, None)


def _is_below(python_frame: FrameType | None, caller: FrameType) -> bool:
    """Whether a frame is still on this thread's stack."""
    frame: FrameType | None = caller
    while frame is not None:
        if frame is python_frame:
            return True
        frame = frame.f_back
    return False
