"""The two ends of a call that one Python function of ours surrounds: of an onnxruntime session, of a plain function.

The function that surrounds the call must not keep the open call in a variable: the call holds that function's
interpreter frame, and both would live, with all arguments, until the next garbage collection.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from recorder.bundle.manifest import CallSettings
from recorder.fingerprint import call_settings
from recorder.governor import Admission
from recorder.hooks.call import OpenCall, begin, end, pop, write_input, write_output

if TYPE_CHECKING:
    from recorder.hooks.attached import AttachedModel
    from recorder.session import Session

__all__ = ["Surrounded", "after", "after_coroutine", "before", "before_coroutine", "before_model"]

#: Of a process without torch: nothing of it decides the call.
_WITHOUT_TORCH = CallSettings(training=False, grad_enabled=False, inference_mode=False)


class Surrounded(Protocol):
    """What is called: it knows its id in a session."""

    def current_id(self, session: Session) -> int:
        """Return the model's id; announces it to a session that does not know it."""
        ...


def before(session: Session, model: Surrounded, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Commit the inputs; call it from the surrounding function itself."""
    call = begin(session, sys._getframe(1))
    _start(session, model, call, args, kwargs)


def before_model(
    session: Session, model: AttachedModel, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    """As `before`, for a torch module that takes no hooks.

    Returns:
        The call's signature, where a graph may be exported for it that there is none of yet.
    """
    call = begin(session, sys._getframe(1))
    if call.admission == Admission.NOTHING:
        return None
    call.model = model.current_id(session, module)
    state = None if model.state is None else model.state_before(session, call, module)
    random_state = model.random_state(module)
    written = write_input(session, call, call_settings(module.training), args, kwargs, random_state, state)
    signature = None
    if written is not None and call.parent is None and not call.admission:
        head, described = written
        if not described.opaque and described.tensors:
            signature = model.new_signature(call.model, head, described)
    call.started_ns = time.monotonic_ns()
    return signature


def after(session: Session, output: object, error: BaseException | None = None) -> None:
    """Commit the output; call it from the function that called `before`."""
    ended_ns = time.monotonic_ns()
    call = pop(sys._getframe(1))
    if call is None:
        session.lost.add("call-without-input")
        return
    _finish(session, call, ended_ns, output, error)


def before_coroutine(session: Session, model: Surrounded, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> OpenCall:
    """As `before`, for a coroutine: it is the parent of no other call, since tasks take turns on one thread."""
    call = begin(session, None)
    _start(session, model, call, args, kwargs)
    return call


def after_coroutine(session: Session, call: OpenCall, output: object, error: BaseException | None = None) -> None:
    """As `after`, for the call that `before_coroutine` returned."""
    _finish(session, call, time.monotonic_ns(), output, error)


def _start(
    session: Session, model: Surrounded, call: OpenCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    if call.admission == Admission.NOTHING:
        return
    call.model = model.current_id(session)
    settings = call_settings(False) if "torch" in sys.modules else _WITHOUT_TORCH
    write_input(session, call, settings, args, kwargs)
    call.started_ns = time.monotonic_ns()


def _finish(session: Session, call: OpenCall, ended_ns: int, output: object, error: BaseException | None) -> None:
    # An interrupt, a cancelled task or an exit is nobody's failure: the call stays open, as it was left.
    left = error is not None and not isinstance(error, Exception)
    if call.admission != Admission.NOTHING and not left:
        write_output(session, call, (ended_ns - call.started_ns) / 1e9, output, error)
    end(session, call, error)
