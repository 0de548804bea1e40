"""The items of a dynamic batch: frames that are open together, whose tensors are recorded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from recorder.frame import Frame, enter, leave
from recorder.governor import Admission

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["Batch"]


class Batch(Sequence[Frame]):
    """The items of a dynamic batch in order: frames that are open together."""

    def __init__(self, session: Session | None, frames: Sequence[Frame]) -> None:
        self.session = session
        self.ids = tuple(frame.id for frame in frames)
        self._frames = list(frames)
        self._token: Token[Any] | None = None

    @property
    def first(self) -> Frame | None:
        """The first frame; None of an empty batch."""
        return self._frames[0] if self._frames else None

    @property
    def admission(self) -> int:
        """How much is recorded: tensors belong to all items, so as much as the fullest item."""
        return min((frame.admission for frame in self._frames), default=Admission.FULL)

    @property
    def is_entered(self) -> bool:
        """Whether it was entered and has not been left."""
        return self._token is not None

    def __getitem__(self, index: Any) -> Any:
        return self._frames[index]

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def __enter__(self) -> Batch:
        session = self.session
        if session is not None:
            self._token = enter(self)
            with session.guard("begin"):
                for frame in self._frames:
                    frame.begin(session)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, token = self.session, self._token
        self._token = None
        if session is None or token is None:
            return
        with session.guard("end"):
            leave(session, token)
            for frame in self._frames:
                frame.end(session, error)
