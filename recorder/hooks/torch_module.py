"""Forward hooks on a torch module: inputs are committed before it runs, outputs after."""

from __future__ import annotations

import sys
from time import monotonic_ns, perf_counter_ns
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from recorder.fingerprint import call_settings
from recorder.governor import Admission
from recorder.hooks.call import OpenCall, begin, end, open_calls, pop, write_input, write_output
from recorder.hooks.compiling import note_compiling
from recorder.hooks.usual_call import input_key, output_key

if TYPE_CHECKING:
    from recorder.hooks.attached import AttachedModel
    from recorder.session import Session

__all__ = ["AfterCall", "BeforeCall", "inert_hook"]

_NOTHING = Admission.NOTHING
_getframe = sys._getframe
_is_compiling = torch.compiler.is_compiling
_tracing_state = torch._C._get_tracing_state
_transform = torch._C._functorch.peek_interpreter_stack


def inert_hook(*_args: object, **_kwargs: object) -> None:
    """What a copied or unpickled hook becomes: the copy of an attached model is not attached."""


class _Hook:
    """One of the two hooks of an attached module."""

    __slots__ = ("_attached",)

    def __init__(self, attached: AttachedModel) -> None:
        self._attached = attached

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (_make_inert, ())


class BeforeCall(_Hook):
    """Commits the inputs."""

    __slots__ = ()

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _is_compiling():
            note_compiling()
            return
        session = self._attached.session()
        if session is None or _is_transforming(session):
            return
        clock = perf_counter_ns()
        # Written out: a guard's context manager costs as much as a record's head.
        try:
            _before(session, self._attached, module, args, kwargs)
        except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
            session.fault("model-call", error)
        session.spent_ns += perf_counter_ns() - clock


class AfterCall(_Hook):
    """Commits the output."""

    __slots__ = ()

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None) -> None:
        if _is_compiling():
            note_compiling()
            return
        clock = perf_counter_ns()
        session = None
        try:
            calls = open_calls()
            # Called by torch's `inner`, which the module's `_call_impl` calls; while an error passes, by that itself.
            call = calls.pop() if calls and calls[-1].python_frame is _getframe(2) else None
            session = call.session if call is not None else self._attached.session()
            if session is None:
                return
            _after(session, self._attached, module, call, output)
        except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
            if session is not None:
                session.fault("model-call", error)
        if session is not None:
            session.spent_ns += perf_counter_ns() - clock


def _is_transforming(session: Session) -> bool:
    """Whether this call computes something else than an answer: a trace, or a function of functorch (vmap, grad)."""
    if _tracing_state() is not None:
        return True
    if _transform() is None:
        return False
    session.lost.add("call-transformed")
    return True


def _make_inert() -> Any:
    return inert_hook


def _before(
    session: Session, attached: AttachedModel, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    call = begin(session, _module_call())
    if call.admission == _NOTHING:
        return
    call.model = attached.current_id(session, module)
    random_state = attached.random_state(module)
    state = None if attached.state is None else attached.state_before(session, call, module)
    usual = input_key(session, call, module.training, args, kwargs) if random_state is None and state is None else None
    if usual is None or not attached.usual.write_input(session, call, usual):
        begin_head = call.beginning(session)
        written = write_input(session, call, call_settings(module.training), args, kwargs, random_state, state)
        if written is not None:
            head, described = written
            if call.parent is None and not call.admission and not described.opaque and described.tensors:
                call.signature = attached.new_signature(call.model, head, described)
            if usual is not None:
                attached.usual.learn_input(usual, call, head, begin_head, described)
    call.started_ns = monotonic_ns()


def _after(session: Session, attached: AttachedModel, module: Any, call: OpenCall | None, output: Any) -> None:
    ended_ns = monotonic_ns()
    if call is None:
        if _is_transforming(session):
            return
        call = pop(_module_call())
        if call is None:
            session.lost.add("call-without-input")
            return
    error = _error_through(call.python_frame) if output is None else None
    if error is not None:
        attached.verify()
    if call.admission == _NOTHING:
        end(session, call, error)
        return
    latency_seconds = (ended_ns - call.started_ns) / 1e9
    usual = output_key(session, call, output) if error is None else None
    if usual is None or not attached.usual.write_output(session, call, usual, latency_seconds):
        end_head = call.ending(session)
        written = write_output(session, call, latency_seconds, output, error)
        if usual is not None and written is not None:
            attached.usual.learn_output(usual, written[0], end_head, written[1])
    end(session, call, error)
    if call.signature is not None and error is None:
        attached.export(session, module, call.signature)


def _module_call() -> FrameType:
    """Return the frame of the module's own ``_call_impl``: it is there before, after, and while an error passes."""
    frame = _getframe(4)  # above this function, the one of ours, the hook, and torch's `inner`
    if frame.f_code.co_name == "_call_impl":
        return frame
    first = _getframe(3)  # while an error passes, or in another torch, `_call_impl` calls the hook itself
    above: FrameType | None = first
    for _ in range(_FRAMES_ABOVE_HOOK):
        if above is None:
            break
        if above.f_code.co_name == "_call_impl":
            return above
        above = above.f_back
    return first


#: torch calls a hook from `_call_impl` or from one function inside it.
_FRAMES_ABOVE_HOOK = 3


def _error_through(caller: FrameType | None) -> BaseException | None:
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
