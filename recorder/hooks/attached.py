"""A model the recorder watches: which weights it has now, which of its calls have a graph."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

import torch

from recorder.bundle.manifest import Model
from recorder.bundle.signature import call_signature
from recorder.capture import Description
from recorder.hooks.compiling import times_compiled
from recorder.hooks.state import MAX_STATE_BYTES, StateFinder, size_of_state
from recorder.hooks.surrounded_module import SurroundedCall, is_compiled_in_place, takes_no_hooks
from recorder.hooks.torch_module import AfterCall, BeforeCall
from recorder.hooks.traceless import Traceless
from recorder.hooks.usual_call import UsualCalls
from recorder.identify import WeightsToRead
from recorder.layers.capture import LayerCapture
from recorder.layers.embedding import EmbeddingCapture
from recorder.models import (
    StateNames,
    StateReader,
    is_compiled,
    layouts_of,
    original,
    tensors_of_module,
    training_modules_of,
    weights_version,
)

if TYPE_CHECKING:
    from recorder.hooks.call import OpenCall
    from recorder.session import Session

__all__ = ["AttachedModel"]

#: Up to so many tensors, every call compares the sum of their version counters (two microseconds).
FEW_TENSORS = 32
#: Of larger models the sum is compared, and swapped tensors are looked for, so seldom that it takes at most one part in
#: so many of the time: 160 cold counters take 0.1 ms, so that a change is noticed a tenth of a second later.
CHECK_SHARE = 1_000
#: Swapped tensors are looked for at most this often.
FULL_CHECK_SECONDS = 1.0
#: After a change so many calls are looked at whole, so that a state shows at once.
WATCHED_CALLS = 6
#: After so many changes the weights are taken to be part of what the model computes (training, running statistics).
MAX_WEIGHT_CHANGES = 4
#: Signatures that a graph is asked for; one graph may serve many (recorder.identify), and more than were asked for.
MAX_SIGNATURES = 16

_version_of = attrgetter("_version")


class _Removable(Protocol):
    def remove(self) -> None: ...


class AttachedModel:
    """What the recorder knows of one attached torch module; lives as long as its hooks."""

    def __init__(
        self,
        module: torch.nn.Module,
        session: Callable[[], Session | None],
        *,
        name: str,
        factory: str | None,
        store: bool,
        capture_rng: bool | None,
        state: tuple[str, ...] | None = None,
        layers: bool = False,
        embedding: str | None = None,
    ) -> None:
        self.session = session
        self.name = name
        self._module = weakref.ref(module)
        self._factory = factory
        self._store = store
        self._capture_rng = capture_rng
        #: Reads the state before a call; None where the model has none.
        self.state: StateReader | None = StateReader(module, StateNames(state)) if state else None
        self._finder = StateFinder() if state is None else None
        self._watched = 0
        self._lock = threading.RLock()
        self._owner: Session | None = None
        self._id = 0
        self._changes = 0
        self._training = False
        self._counted: list[torch.Tensor] = []
        self._version_sum = 0
        self._version = 0
        self._sum_due_ns = 0
        self._full_due_ns = 0
        self._verified_call = 0
        #: Heads of this model's usual calls; session and model are part of the key or cleared with it.
        self.usual = UsualCalls()
        self._signatures: dict[tuple[Any, ...], None] = {}
        self._example: dict[str, Any] = {}
        self._compiled_before = times_compiled()
        self._parts: list[_Removable] = []
        if takes_no_hooks(module):
            self._parts.append(SurroundedCall(self, module))
            return
        handles = [
            module.register_forward_pre_hook(BeforeCall(self), with_kwargs=True),
            module.register_forward_hook(AfterCall(self), with_kwargs=True, always_call=True),
        ]
        if embedding is not None:
            self._parts.append(EmbeddingCapture(module, embedding, session))
        if layers:
            capture = LayerCapture(module, session)
            self._parts.append(capture)
            handles += capture.handles
        self._parts += [*handles, Traceless(module, {handle.id for handle in handles})]

    def is_for(self, module: object) -> bool:
        """Whether this is the attachment of that very module."""
        return self._module() is module

    def detach(self) -> None:
        """Remove the hooks."""
        for part in self._parts:
            part.remove()

    @property
    def recorded(self) -> torch.nn.Module | None:
        """The module itself; None once the host has dropped it."""
        return self._module()

    @property
    def unseen_graphs(self) -> int:
        """How often hooks of this process were met in a graph being compiled, since this module was attached.

        One more where it was compiled in place meanwhile: torch may take the graph of another module for it.
        """
        module = self._module()
        in_place = module is not None and is_compiled_in_place(module)
        return max(times_compiled() - self._compiled_before, int(in_place))

    def announce(self) -> None:
        """Have the weights identified now rather than at the first call."""
        session, module = self.session(), self._module()
        if session is not None and module is not None:
            with session.guard("attach"):
                self.current_id(session, module)

    def forget_after_fork(self) -> None:
        """In a forked child: a lock that another thread held would never be released."""
        self._lock = threading.RLock()

    def current_id(self, session: Session, module: torch.nn.Module) -> int:
        """Return the id under which the model's present weights are known; announces them when they are new."""
        now_ns = time.monotonic_ns()
        if session is self._owner and module.training == self._training and now_ns < self._full_due_ns:
            if now_ns < self._sum_due_ns:
                return self._id
            if self._sum_versions() == self._version_sum:
                self._verified_call = session.calls_begun
                if len(self._counted) > FEW_TENSORS:
                    self._sum_due_ns = now_ns + CHECK_SHARE * (time.monotonic_ns() - now_ns)
                return self._id
        with self._lock:
            self._check(session, module)
            return self._id

    def verify(self) -> None:
        """Have the weights compared at the next call, whatever it costs: something happened."""
        self._sum_due_ns = self._full_due_ns = 0

    def compare(self, session: Session) -> bool:
        """Compare the weights now, outside of any call; say whether that could be done.

        A change that is found casts doubt on all calls since the last comparison, the newest too: it may have begun on
        either side of the change.
        """
        module = self._module()
        if module is None or session is not self._owner:
            return True  # there is nothing to compare: no call of this session ran with it, or none will
        with self._lock:
            try:
                self._check(session, module, session.calls_begun + 1)
            except RuntimeError:
                return False  # its parts are being exchanged at this moment
        return True

    def random_state(self, module: torch.nn.Module) -> torch.Tensor | None:
        """Return torch's CPU generator state where the model can draw: asked for, or a dropout in training mode."""
        wanted = self._capture_rng
        if wanted is None:
            wanted = module.training and any(
                isinstance(part, torch.nn.modules.dropout._DropoutNd) and part.training for part in module.modules()
            )
        return torch.get_rng_state() if wanted else None

    def state_before(self, session: Session, call: OpenCall, module: torch.nn.Module) -> dict[str, torch.Tensor] | None:
        """Return the live state to be captured with an outermost call; None where it is nested, or too large."""
        if self.state is None or call.parent is not None:
            return None
        state = self.state.read(module)
        if size_of_state(state) > MAX_STATE_BYTES:
            session.lost.add("state-too-large")
            return None
        return state

    def new_signature(self, model_id: int, head: dict[str, Any], described: Description) -> str | None:
        """Return the signature of a call the first time one of its shape is seen, None afterwards."""
        key = (model_id, *((tensor["dtype"], tuple(tensor["shape"])) for tensor in described.tensors))
        if key in self._signatures or len(self._signatures) >= MAX_SIGNATURES or not self._store:
            return None
        self._signatures[key] = None
        self._example = head
        return call_signature(head["args"], head["kwargs"], head.get("state"))

    def export(self, session: Session, module: torch.nn.Module, signature: str) -> None:
        """Have the graph of a call that just worked exported, in a child process, by the recorder's own thread."""
        patterns = self.state.names.patterns if self.state is not None else ()
        session.export_graph(self._id, module, signature, {**self._example, "state_names": patterns})

    def _check(self, session: Session, module: torch.nn.Module, before: int | None = None) -> None:
        """Compare the weights with those last announced; announce them anew when they differ.

        ``before`` is the first call that runs with what is found: None: the one that has just begun.
        """
        began_ns = time.monotonic_ns()
        begun = session.calls_begun
        try:
            self._compare(session, module, begun if before is None else before)
            self._verified_call = begun
        finally:
            now_ns = time.monotonic_ns()
            pause_ns = max(int(FULL_CHECK_SECONDS * 1e9), CHECK_SHARE * (now_ns - began_ns))
            self._watched = max(0, self._watched - 1)
            self._full_due_ns = now_ns + pause_ns if not self._watched else 0
            self._sum_due_ns = 0

    def _compare(self, session: Session, module: torch.nn.Module, before: int) -> None:
        self._training = module.training
        tensors = tensors_of_module(module)
        if self.state is not None:
            tensors = self.state.names.weights(tensors)
        training = training_modules_of(module)
        weights = weights_version(tensors)
        version = hash((weights, training))
        fresh = session is not self._owner
        if not fresh and version == self._version:
            return
        self._changes = 0 if fresh else self._changes + 1
        if self._finder is not None:
            if fresh:
                self._finder.forget()
            tensors = self._without_found_state(session, module, tensors)
            weights = weights_version(tensors)
            version = hash((weights, training))
            self._watched = 0 if fresh or self._changes > MAX_WEIGHT_CHANGES else WATCHED_CALLS
        if not fresh:
            session.doubt_calls(self._id, self._verified_call + 1, before)
        if self._changes > MAX_WEIGHT_CHANGES:
            self._remember(tensors, version)
            return
        # The id first: a thread that meets the new sum must not find the old id.
        self._id = session.next_model()
        self._owner = session
        session.compared(self)
        self._remember(tensors, version)
        self._signatures.clear()
        self.usual.clear()
        settled = self._changes < MAX_WEIGHT_CHANGES
        problems = () if settled else ("Its weights keep changing while it runs, so no digest can name them.",)
        kind = type(original(module))
        session.announce_model(
            Model(
                id=self._id,
                name=self.name,
                framework="torch",
                type=f"{kind.__module__}.{kind.__qualname__}"[:300],
                factory=self._factory,
                compiled=is_compiled(module),
                layouts=layouts_of(tensors),
                training_modules=training,
                state=self.state.names.patterns if self.state is not None else (),
                problems=problems,
            ),
            WeightsToRead(tensors, weights, store=self._store) if settled else None,
        )

    def _without_found_state(
        self, session: Session, module: torch.nn.Module, tensors: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Take for state what changed again and again while the rest stayed; return the weights that are left."""
        assert self._finder is not None  # noqa: S101  asked by its caller
        found = self._finder.look(tensors)
        if not found:
            return tensors
        known = self.state.names.patterns if self.state is not None else ()
        names = StateNames((*known, *found))
        self.state = StateReader(module, names)
        self._changes = 0
        self._finder.forget()
        session.say_of_state(self.name, names.patterns)
        return names.weights(tensors)

    def _remember(self, tensors: dict[str, torch.Tensor], version: int) -> None:
        self._version = version
        # Inference tensors keep no version counter and raise when asked for it.
        self._counted = [tensor for tensor in tensors.values() if not tensor.is_inference()]
        self._version_sum = self._sum_versions()

    def _sum_versions(self) -> int:
        return sum(map(_version_of, self._counted))
