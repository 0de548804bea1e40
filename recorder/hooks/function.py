"""A plain function the recorder watches: its arguments and its result, a call like a model's."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recorder.bundle.manifest import Model
from recorder.hooks.wrapped import after, after_coroutine, before, before_coroutine

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["AttachedFunction", "is_function"]

_FUNCTIONS = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    functools.partial,
)


def is_function(value: object) -> bool:
    """Whether a value can be replaced by a function of ours: not so an object that has attributes besides its call."""
    return isinstance(value, _FUNCTIONS) and not (
        inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value)
    )


class AttachedFunction:
    """What the recorder knows of one attached function; ``recorded`` is what the host calls instead."""

    def __init__(
        self,
        function: Callable[..., Any],
        session: Callable[[], Session | None],
        *,
        name: str,
        factory: str | None,
    ) -> None:
        self.session = session
        self.name = name
        self._factory = factory
        self._function = function
        self._owner: Session | None = None
        self._id = 0
        self._is_attached = True
        self.recorded = self._recorded_coroutine() if inspect.iscoroutinefunction(function) else self._recorded()

    @property
    def unseen_graphs(self) -> int:
        """None: nothing of it can be compiled into a graph."""
        return 0

    def is_for(self, value: object) -> bool:
        """Whether this is the attachment of that very function."""
        return value is self.recorded or value is self._function

    def detach(self) -> None:
        """Stop recording; what the host holds goes on calling the function."""
        self._is_attached = False

    def announce(self) -> None:
        """Nothing is read of a function: it is announced by its first call."""

    def forget_after_fork(self) -> None:
        """Nothing of a function belongs to one process."""

    def current_id(self, session: Session) -> int:
        """Return the id under which the session knows the function."""
        if session is not self._owner:
            self._id = session.next_model()
            self._owner = session
            session.announce_model(
                Model(
                    id=self._id,
                    name=self.name,
                    framework="callable",
                    type=_qualified_name(self._function),
                    factory=self._factory,
                    problems=("A function has no weights that could be stored.",),
                ),
                None,
            )
        return self._id

    def _recording(self) -> Session | None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.compiler.is_compiling():
            return None  # part of a graph that the host has compiled: nothing of ours may be traced into it
        return self.session() if self._is_attached else None

    def _recorded(self) -> Callable[..., Any]:
        function = self._function

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            session = self._recording()
            if session is None:
                return function(*args, **kwargs)
            with session.guard("function-call"):
                before(session, self, args, kwargs)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                with session.guard("function-call"):
                    after(session, None, error)
                raise
            with session.guard("function-call"):
                after(session, result)
            return result

        return recorded

    def _recorded_coroutine(self) -> Callable[..., Any]:
        function = self._function

        @functools.wraps(function)
        async def recorded(*args: Any, **kwargs: Any) -> Any:
            session = self._recording()
            if session is None:
                return await function(*args, **kwargs)
            call = None
            with session.guard("function-call"):
                call = before_coroutine(session, self, args, kwargs)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                if call is not None:
                    with session.guard("function-call"):
                        after_coroutine(session, call, None, error)
                raise
            if call is not None:
                with session.guard("function-call"):
                    after_coroutine(session, call, result)
            return result

        return recorded


def _qualified_name(function: Callable[..., Any]) -> str:
    inner = inspect.unwrap(function) if not isinstance(function, functools.partial) else function.func
    return f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__name__)}"[:300]
