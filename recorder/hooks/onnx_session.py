"""An onnxruntime session the recorder watches: each `run` is a call of (output names or None, feed) that gives a list.

The session becomes an instance of a class of ours that differs from its own in `run` alone. Replacing the method on
the instance instead would tie the session into a reference cycle, and a service that swaps models would hold the
memory of two until the next garbage collection.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recorder.bundle.manifest import Model
from recorder.bundle.values import JsonValue
from recorder.hooks.wrapped import after, before
from recorder.identify import FileToRead

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["AttachedSession", "is_onnx_session"]

#: Ways to run a session whose inputs or outputs we do not see as arrays.
UNRECORDED = ("run_with_iobinding", "run_async", "run_with_ort_values", "run_with_ortvaluevector")
#: What of the session options can change the answer.
_OPTIONS = (
    "execution_mode",
    "graph_optimization_level",
    "inter_op_num_threads",
    "intra_op_num_threads",
    "use_deterministic_compute",
)
#: A provider's options also hold cache directories and credentials; only what cannot spell either is kept.
_HARMLESS = re.compile(r"[A-Za-z0-9_.+-]{0,32}")


def is_onnx_session(value: object) -> bool:
    """Whether a value is an onnxruntime.InferenceSession."""
    onnxruntime = sys.modules.get("onnxruntime")
    kind = getattr(onnxruntime, "InferenceSession", None)
    return isinstance(kind, type) and isinstance(value, kind)


class AttachedSession:
    """What the recorder knows of one attached session."""

    def __init__(
        self,
        onnx_session: Any,
        session: Callable[[], Session | None],
        *,
        name: str,
        factory: str | None,
        store: bool,
    ) -> None:
        self.session = session
        self.name = name
        self._factory = factory
        self._store = store
        self._lock = threading.RLock()
        self._owner: Session | None = None
        self._id = 0
        self._onnx_session = weakref.ref(onnx_session)
        self._kind = kind = type(onnx_session)
        self._type = f"{kind.__module__}.{kind.__qualname__}"[:300]
        self._class = _watched_class(kind, self)
        onnx_session.__class__ = self._class

    @property
    def recorded(self) -> Any:
        """The session itself; None once the host has dropped it."""
        return self._onnx_session()

    @property
    def unseen_graphs(self) -> int:
        """None: nothing of it can be compiled into a graph."""
        return 0

    def is_for(self, value: object) -> bool:
        """Whether this is the attachment of that very session."""
        return self._onnx_session() is value

    def detach(self) -> None:
        """Give the session its own class back, unless somebody has changed it since."""
        onnx_session = self._onnx_session()
        if onnx_session is not None and type(onnx_session) is self._class:
            onnx_session.__class__ = self._kind

    def announce(self) -> None:
        """Have the model identified now rather than at the first call."""
        session = self.session()
        if session is not None:
            with session.guard("attach"):
                self.current_id(session)

    def forget_after_fork(self) -> None:
        """In a forked child: a lock that another thread held would never be released."""
        self._lock = threading.RLock()

    def current_id(self, session: Session) -> int:
        """Return the id under which the recording knows the model; its weights never change."""
        if session is self._owner:
            return self._id
        with self._lock:
            onnx_session = self._onnx_session()
            if session is self._owner or onnx_session is None:
                return self._id
            self._id = session.next_model()
            self._owner = session
            content = getattr(onnx_session, "_model_bytes", None) or getattr(onnx_session, "_model_path", None)
            known = isinstance(content, bytes | str)
            session.announce_model(
                Model(
                    id=self._id,
                    name=self.name,
                    framework="onnxruntime",
                    type=self._type,
                    factory=self._factory,
                    options=_options_of(onnx_session),
                    problems=() if known else ("This onnxruntime does not say which file the session was made of.",),
                ),
                FileToRead(content, store=self._store) if isinstance(content, bytes | str) else None,
            )
            return self._id


def _watched_class(kind: type, attached: AttachedSession) -> type:
    """Make a class that is ``kind`` except that it records."""

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        recording = attached.session() if attached.is_for(self) else None
        if recording is None:
            return kind.run(self, *args, **kwargs)  # type: ignore[attr-defined]  # kind is a session's class
        with recording.guard("onnx-call"):
            before(recording, attached, _names_and_feed(*args, **kwargs), {})
        try:
            outputs = kind.run(self, *args, **kwargs)  # type: ignore[attr-defined]  # see above
        except BaseException as error:
            with recording.guard("onnx-call"):
                after(recording, None, error)
            raise
        with recording.guard("onnx-call"):
            after(recording, outputs)
        return outputs

    def reduce(self: Any, protocol: Any) -> Any:
        """A copied or pickled session is an ordinary one: it names the class that ours stands in for."""
        own = type(self)
        reduced: Any = super(own, self).__reduce_ex__(protocol)
        if isinstance(reduced, str):
            return reduced
        function, arguments, *rest = reduced
        named = tuple(kind if item is own else item for item in (function, *arguments))
        return (named[0], named[1:], *rest)

    namespace: dict[str, Any] = {
        "__slots__": (),
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce_ex__": reduce,
        "run": functools.wraps(kind.run)(run),  # type: ignore[attr-defined]  # see above
    }
    for name in UNRECORDED:
        if hasattr(kind, name):
            namespace[name] = _counted(kind, name, attached)
    return type(kind)(kind.__name__, (kind,), namespace)


def _counted(kind: type, name: str, attached: AttachedSession) -> Callable[..., Any]:
    original = getattr(kind, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        recording = attached.session()
        if recording is not None:
            recording.lost.add(f"onnx-{name.replace('_', '-')}")
        return original(self, *args, **kwargs)

    return method


def _names_and_feed(output_names: object = None, input_feed: object = None, *_more: object, **_named: object) -> Any:
    """Reduce the arguments of `run` to those that decide the answer; run options name a log, not a computation."""
    return (
        list(output_names) if isinstance(output_names, list | tuple) else None,
        dict(input_feed) if isinstance(input_feed, dict) else input_feed,
    )


def _options_of(onnx_session: Any) -> dict[str, JsonValue]:
    """Read providers and options of a session; what this version of onnxruntime lacks is left out."""
    options = onnx_session.get_session_options()
    found: dict[str, JsonValue] = {
        "onnxruntime": str(sys.modules["onnxruntime"].__version__)[:32],
        "providers": [str(provider)[:64] for provider in onnx_session.get_providers()],
        "provider_options": {
            str(provider)[:64]: {
                str(key)[:64]: str(value) for key, value in given.items() if _HARMLESS.fullmatch(str(value))
            }
            for provider, given in onnx_session.get_provider_options().items()
        },
    }
    for name in _OPTIONS:
        value = getattr(options, name, None)
        if value is not None:
            found[name] = value if isinstance(value, bool | int) else str(getattr(value, "name", value))
    return found
