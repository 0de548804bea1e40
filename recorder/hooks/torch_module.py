"""Forward hooks on a torch module: inputs are committed before it runs, outputs after."""

from __future__ import annotations

import sys
from time import monotonic_ns, perf_counter_ns
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from recorder.environment import call_settings, plain_settings
from recorder.governor import Admission
from recorder.hooks.call import begin, end, pop, write_input, write_output
from recorder.hooks.compiling import note_compiling
from recorder.hooks.usual_call import tensor_key

if TYPE_CHECKING:
    from recorder.hooks.attached import AttachedModel
    from recorder.session import Session

__all__ = ["ModuleHook", "inert_hook"]

_tracing_state = torch._C._get_tracing_state
_transform = torch._C._functorch.peek_interpreter_stack


def inert_hook(*_args: object, **_kwargs: object) -> None:
    """What a copied or unpickled hook becomes: the copy of an attached model is not attached."""


class ModuleHook:
    """Both hooks of one attached module; ``before`` and ``after`` share the stack of open calls."""

    def __init__(self, attached: AttachedModel, *, before: bool) -> None:
        self._attached = attached
        self._is_before = before

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (_make_inert, ())

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *output: Any) -> None:
        if torch.compiler.is_compiling():
            note_compiling()
            return
        session = self._attached.session()
        if session is None or _is_transforming(session):
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
    call = begin(session, _module_call(sys._getframe(2)))
    if call.admission == Admission.NOTHING:
        return
    call.model = attached.current_id(session, module)
    random_state = attached.random_state(module)
    usual = None
    if len(args) == 1 and len(call.frames) == 1 and not kwargs and random_state is None:
        settings = plain_settings(module.training)
        if settings is not None:
            context = session.contexts.current()
            usual = tensor_key(args[0], call.model, context, call.parent, settings, call.admission)
    if usual is None or not attached.usual.write_input(session, usual, call.id, call.key, monotonic_ns()):
        written = write_input(session, call, call_settings(module.training), args, kwargs, random_state)
        if written is not None:
            head, described = written
            if call.parent is None and not call.admission and not described.opaque and described.tensors:
                call.signature = attached.new_signature(call.model, head, described)
            if usual is not None:
                attached.usual.learn_input(usual, head, described, thinned=call.admission != Admission.FULL)
    call.started_ns = monotonic_ns()


def _after(session: Session, attached: AttachedModel, module: Any, output: Any) -> None:
    ended_ns = monotonic_ns()
    caller = _module_call(sys._getframe(2))
    call = pop(caller)
    if call is None:
        session.lost.add("call-without-input")
        return
    error = _error_through(caller) if output is None else None
    if error is not None:
        attached.verify()
    if call.admission == Admission.NOTHING:
        end(session, call, error)
        return
    latency = (ended_ns - call.started_ns) / 1e9
    usual = tensor_key(output) if error is None and len(call.frames) == 1 and not call.admission else None
    if usual is None or not attached.usual.write_output(session, usual, call.id, call.key, latency):
        written = write_output(session, call, latency, output, error)
        if usual is not None and written is not None:
            attached.usual.learn_output(usual, *written)
    end(session, call, error)
    if call.signature is not None and error is None:
        attached.export(session, module, call.signature)


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
