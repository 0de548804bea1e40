"""Forward hooks on a torch module: inputs are committed before it runs, outputs after."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from time import monotonic_ns, perf_counter_ns
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from recorder.capture import describe, without_tensors
from recorder.environment import call_settings, plain_settings
from recorder.frame import Frame, current_group, exception_head
from recorder.governor import Admission
from recorder.hooks.usual_call import tensor_key
from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.hooks.attached import AttachedModel
    from recorder.session import Session

__all__ = ["ModuleHook", "inert_hook"]


#: Outputs of thinned frames are kept up to this: triggers look at them, and they cost as little as the metadata.
MAX_THINNED_OUTPUT_BYTES = 64 * 2**10
_THINNED = "left out to keep within overhead_budget"


def inert_hook(*_args: object, **_kwargs: object) -> None:
    """What a copied or unpickled hook becomes: the copy of an attached model is not attached."""


@dataclass(slots=True)
class _OpenCall:
    """A call between its two hooks."""

    id: int
    model: int
    python_frame: FrameType  #: the interpreter frame that runs the module; held, so that its identity stays unique
    implicit: Frame | None
    frames: tuple[int, ...]
    key: int
    started_ns: int
    signature: str | None  #: of a call no graph was exported for yet
    admission: int  #: of its frames


class _Stack(threading.local):
    """The open calls of this thread, outermost first. Forward is synchronous: a thread-local says it."""

    def __init__(self) -> None:
        self.calls: list[_OpenCall] = []


_stack = _Stack()


class ModuleHook:
    """Both hooks of one attached module; ``before`` and ``after`` share the stack of open calls."""

    def __init__(self, attached: AttachedModel, *, before: bool) -> None:
        self._attached = attached
        self._is_before = before

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (_make_inert, ())

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *output: Any) -> None:
        session = self._attached.session()
        if session is None or torch.compiler.is_compiling():
            return
        began = perf_counter_ns()
        # Written out: a guard's context manager costs as much as a record's head.
        try:
            if self._is_before:
                _before(session, self._attached, module, args, kwargs)
            else:
                _after(session, self._attached, module, output[0] if output else None)
        except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
            session.fault("model-call", error)
        session.spent_ns += perf_counter_ns() - began


def _make_inert() -> Any:
    return inert_hook


def _before(
    session: Session, attached: AttachedModel, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    caller = _module_call(sys._getframe(2))
    calls = _stack.calls
    if calls:
        _drop_stale(caller)
    parent = calls[-1].id if calls else None
    group = current_group(session)
    implicit = None
    if group is None:
        implicit = Frame(session)
        implicit.__enter__()
        group = implicit
    ids = group.ids
    key = ids[0] if ids else 0
    call = _OpenCall(session.next_call(), 0, caller, implicit, ids, key, 0, None, group.admission)
    calls.append(call)
    if call.admission == Admission.NOTHING:
        return
    call.model = attached.current_id(session, module)
    random_state = attached.random_state(module)
    usual = None
    if len(args) == 1 and len(ids) == 1 and not kwargs and random_state is None:
        settings = plain_settings(module.training)
        if settings is not None:
            usual = tensor_key(args[0], call.model, session.contexts.current(), parent, settings, call.admission)
    if usual is None or not attached.usual.write_input(session, usual, call.id, key, monotonic_ns()):
        _write_input(session, attached, call, parent, (module.training, args, kwargs, random_state), usual)
    call.started_ns = monotonic_ns()


def _write_input(
    session: Session,
    attached: AttachedModel,
    call: _OpenCall,
    parent: int | None,
    given: tuple[bool, tuple[Any, ...], dict[str, Any], torch.Tensor | None],
    usual: tuple[Any, ...] | None,
) -> None:
    """Describe the arguments and commit them; the plain path, which takes anything."""
    training, args, kwargs, random_state = given
    described = describe((args, kwargs, random_state))
    args_tagged, kwargs_tagged, random_tagged = described.tagged["tuple"]
    settings = call_settings(training)
    head = {
        "call": call.id,
        "model": call.model,
        "context": session.contexts.current(),
        "frames": call.frames,
        "parent": parent,
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
    if described.opaque:
        session.lost.add("input-unsupported", len(described.opaque))
    if call.admission:
        head |= {
            "args": without_tensors(args_tagged, _THINNED),
            "kwargs": without_tensors(kwargs_tagged, _THINNED),
            "rng": None,
        }
        if session.write(Kind.INPUT, call.key, head) and usual is not None:
            attached.usual.learn_input(usual, head, described, thinned=True)
        return
    if not session.write(Kind.INPUT, call.key, head, described):
        session.lost.add("input-not-recorded")
        session.write(
            Kind.INPUT,
            call.key,
            {**head, "args": without_tensors(args_tagged), "kwargs": without_tensors(kwargs_tagged), "rng": None},
        )
        return
    if parent is None and not described.opaque:
        call.signature = attached.new_signature(call.model, head, described)
    if usual is not None:
        attached.usual.learn_input(usual, head, described)


def _after(session: Session, attached: AttachedModel, module: Any, output: Any) -> None:
    ended_ns = monotonic_ns()
    caller = _module_call(sys._getframe(2))
    call = _pop(caller)
    if call is None:
        session.lost.add("call-without-input")
        return
    error = _error_through(caller) if output is None else None
    if error is not None:
        attached.verify()
    if call.admission == Admission.NOTHING:
        if call.implicit is not None:
            call.implicit.__exit__(type(error) if error else None, error, None)
        return
    latency = (ended_ns - call.started_ns) / 1e9
    usual = tensor_key(output) if error is None and len(call.frames) == 1 and not call.admission else None
    if usual is None or not attached.usual.write_output(session, usual, call.id, call.key, latency):
        _write_output(session, attached, call, latency, output, error, usual)
    if call.implicit is not None:
        call.implicit.__exit__(type(error) if error else None, error, None)
    if call.signature is not None and error is None:
        attached.export(session, module, call.signature)


def _write_output(
    session: Session,
    attached: AttachedModel,
    call: _OpenCall,
    latency: float,
    output: Any,
    error: BaseException | None,
    usual: tuple[Any, ...] | None,
) -> None:
    """Describe the output or the exception and commit it; the plain path, which takes anything."""
    head: dict[str, Any] = {"call": call.id, "frames": call.frames, "latency": latency}
    if error is not None:
        session.write(Kind.OUTPUT, call.key, {**head, "exception": exception_head(error, "model")})
        return
    described = describe(output)
    head["output"] = described.tagged
    if described.opaque:
        session.lost.add("output-unsupported", len(described.opaque))
    if call.admission and described.size_bytes > MAX_THINNED_OUTPUT_BYTES:
        session.write(Kind.OUTPUT, call.key, {**head, "output": without_tensors(described.tagged, _THINNED)})
        return
    if not session.write(Kind.OUTPUT, call.key, head, described):
        session.lost.add("output-not-recorded")
        session.write(Kind.OUTPUT, call.key, {**head, "output": without_tensors(described.tagged)})
    elif usual is not None:
        attached.usual.learn_output(usual, head, described)


def _module_call(frame: FrameType) -> FrameType:
    """Return the frame of the module's own ``_call_impl``: it is there before, after, and while an error passes."""
    above: FrameType | None = frame
    for _ in range(_FRAMES_ABOVE_HOOK):
        if above is None:
            break
        if above.f_code.co_name == "_call_impl":
            return above
        above = above.f_back
    return frame


#: torch calls a hook from `_call_impl` or from one function inside it.
_FRAMES_ABOVE_HOOK = 3


def _error_through(caller: FrameType) -> BaseException | None:
    """The exception that is passing through the module's call, not one that the host was handling all along.

    torch runs our hook for a raising forward inside `_call_impl`'s own except block, so that frame stands in the
    traceback.
    """
    error = sys.exception()
    traceback = error.__traceback__ if error is not None else None
    while traceback is not None:
        if traceback.tb_frame is caller:
            return error
        traceback = traceback.tb_next
    return None


def _pop(caller: FrameType) -> _OpenCall | None:
    """Take the open call that this interpreter frame began; forget those above it that were left without a word."""
    while _stack.calls:
        call = _stack.calls.pop()
        if call.python_frame is caller:
            return call
        _close_stale(call)
    return None


def _drop_stale(caller: FrameType) -> None:
    """Forget calls whose forward was left by an exception that runs no hooks, such as KeyboardInterrupt."""
    while _stack.calls and not _is_below(_stack.calls[-1].python_frame, caller):
        _close_stale(_stack.calls.pop())


def _close_stale(call: _OpenCall) -> None:
    if call.implicit is not None:
        call.implicit.__exit__(None, None, None)


def _is_below(python_frame: FrameType, caller: FrameType) -> bool:
    """Whether a frame is still on this thread's stack."""
    frame: FrameType | None = caller
    while frame is not None:
        if frame is python_frame:
            return True
        frame = frame.f_back
    return False
