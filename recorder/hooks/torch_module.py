"""Forward hooks on a torch module: inputs are committed before it runs, outputs after."""

from __future__ import annotations

import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from recorder.environment import call_settings
from recorder.hooks.call import begin, end, pop, write_input, write_output

if TYPE_CHECKING:
    from recorder.hooks.attached import AttachedModel
    from recorder.session import Session

__all__ = ["ModuleHook", "inert_hook"]


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
        session = self._attached.session()
        if session is None or torch.compiler.is_compiling():
            return
        with session.guard("model-call"):
            if self._is_before:
                _before(session, self._attached, module, args, kwargs)
            else:
                _after(session, self._attached, module, output[0] if output else None)


def _make_inert() -> Any:
    return inert_hook


def _before(
    session: Session, attached: AttachedModel, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    call = begin(session, _module_call(sys._getframe(2)))
    call.model = attached.current_id(session, module)
    random_state = attached.random_state(module)
    written = write_input(session, call, call_settings(module.training), args, kwargs, random_state)
    if written is not None and call.parent is None:
        call.signature = attached.new_signature(call.model, *written)
    call.started_ns = time.monotonic_ns()


def _after(session: Session, attached: AttachedModel, module: Any, output: Any) -> None:
    ended_ns = time.monotonic_ns()
    caller = _module_call(sys._getframe(2))
    call = pop(caller)
    if call is None:
        session.lost.add("call-without-input")
        return
    error = _error_through(caller) if output is None else None
    write_output(session, call, (ended_ns - call.started_ns) / 1e9, output, error)
    end(call, error)
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
