"""What can be attached, and which part of ours watches it. Imports torch only where a torch module is attached."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["Attachment", "Unsupported", "attachment_of"]


class Unsupported(TypeError):
    """Not a kind of object whose calls can be recorded."""


class Attachment(Protocol):
    """One attached model, session or function."""

    name: str

    @property
    def recorded(self) -> Any:
        """What the host calls from now on: the attached object itself, of a function the one that stands for it."""
        ...

    @property
    def unseen_graphs(self) -> int:
        """Graphs that the host has compiled since, whose calls cannot be seen."""
        ...

    def is_for(self, value: object) -> bool:
        """Whether this is the attachment of that very object."""
        ...

    def announce(self) -> None:
        """Have the model identified now rather than at its first call."""
        ...

    def detach(self) -> None:
        """Stop watching."""
        ...

    def forget_after_fork(self) -> None:
        """In a forked child: let go of what belongs to the parent."""
        ...


def attachment_of(
    model: Any,
    session: Callable[[], Session | None],
    *,
    name: Callable[[str], str],
    factory: str | None,
    store: bool,
    capture_rng: bool | None,
    state: tuple[str, ...] | None = None,
    layers: bool = False,
    embedding: str | None = None,
) -> Attachment:
    """Attach a torch module, an onnxruntime session or a function.

    Args:
        model: what is called.
        session: gives the recording of this process.
        name: makes a default name unique.
        factory: see `FlightRecorder.attach`; so ``store``, ``capture_rng``, ``layers``, ``embedding`` and ``state``.

    Raises:
        Unsupported: it is none of these.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from recorder.hooks.attached import AttachedModel

        return AttachedModel(
            model,
            session,
            name=name(type(model).__name__),
            factory=factory,
            store=store,
            capture_rng=capture_rng,
            state=state,
            layers=layers,
            embedding=embedding,
        )
    from recorder.hooks.onnx_session import AttachedSession, is_onnx_session

    if is_onnx_session(model):
        return AttachedSession(model, session, name=name("onnx"), factory=factory, store=store)
    from recorder.hooks.function import AttachedFunction, is_function

    if is_function(model):
        called = getattr(model, "__name__", None) or "function"
        return AttachedFunction(model, session, name=name(str(called)[:200]), factory=factory)
    raise Unsupported(type(model).__name__)
