"""Layer digests at capture: what the layers of an attached model gave, hashed and sketched on the calling thread.

Opt-in (``attach(model, layers=True)``). Watched are the modules that own a matrix (convolution, linear, attention,
recurrence): between two of them lies little that could go wrong unseen.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recorder.capture import describe
from recorder.governor import Admission
from recorder.hooks.call import OpenCall, open_calls
from recorder.layers.digest import hash_number, is_digestible, sample_tensor
from recorder.layers.watching import forget, watch
from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["LayerCapture", "has_matrix"]

#: Of the model's own time, at most. What a call's digests take beyond it is owed: the next calls go without. The hook
#: that watches costs every call another 2 to 3 % of a MobileNetV2, digests or not: both together stay below 8 %.
SHARE = 0.05
#: Savings are bounded, so that a quiet hour does not pay for a busy minute.
_MAX_SAVED_NS = 50_000_000
#: A call with digests may be debited this many times what their own clock says: caches they evict make the model slower
#: by as much again, but a call that is slow for a reason of its own must not silence them for minutes.
_MAX_DEBIT = 4
#: Weight of one call in the running mean of what calls without digests take.
_MEMORY = 1 / 8
MAX_LAYERS = 4096


def has_matrix(module: torch.nn.Module) -> bool:
    """Whether a module itself owns a parameter of two or more dimensions."""
    return any(parameter.dim() >= 2 for parameter in module.parameters(recurse=False))


class _Local(threading.local):
    """What this thread's open call has given so far; None where it is not watched."""

    seen: list[tuple[str, int, Any]] | None = None
    spent_ns = 0
    began_ns = 0


class LayerCapture:
    """Watches the layers of one attached module, as often as SHARE allows."""

    def __init__(self, module: torch.nn.Module, session: Callable[[], Session | None]) -> None:
        self._session = session
        self._local = _Local()
        self._saved_ns = 0.0
        self._plain_ns = 0.0  #: what a call without digests takes, running mean; 0 before the first
        parts = {id(part): path for path, part in module.named_modules() if path and has_matrix(part)}
        self._numbers = frozenset(list(parts)[:MAX_LAYERS])
        watch(self, {number: parts[number] for number in self._numbers})
        weakref.finalize(module, forget, self, self._numbers)
        #: Run inside the recorder's own: a call is open when they do.
        self.handles = [
            module.register_forward_pre_hook(self._begin),
            module.register_forward_hook(self._end, prepend=True, always_call=True),
        ]

    def remove(self) -> None:
        """Stop watching."""
        for handle in self.handles:
            handle.remove()
        forget(self, self._numbers)

    def see(self, path: str, output: Any) -> None:
        """Digest what a layer gave, if the call that it is part of is watched."""
        seen = self._local.seen
        if seen is None or not is_digestible(output) or not output.is_cpu or len(seen) >= MAX_LAYERS:
            return
        began = perf_counter_ns()
        try:
            seen.append((path, hash_number(output), sample_tensor(output)))
        except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
            self._local.seen = None
            self._fault(error)
        self._local.spent_ns += perf_counter_ns() - began

    def _begin(self, _module: torch.nn.Module, _args: Any) -> None:
        self._local.seen = None
        if torch.compiler.is_compiling():
            return
        calls = open_calls()
        if self._saved_ns >= 0 and calls and calls[-1].parent is None and calls[-1].admission == Admission.FULL:
            self._local.seen = []
        self._local.spent_ns, self._local.began_ns = 0, perf_counter_ns()

    def _end(self, _module: torch.nn.Module, _args: Any, _output: Any) -> None:
        seen, self._local.seen = self._local.seen, None
        if torch.compiler.is_compiling():
            return
        began = perf_counter_ns()
        taken_ns = began - self._local.began_ns
        self._saved_ns += SHARE * (taken_ns - self._local.spent_ns)
        self._saved_ns = min(_MAX_SAVED_NS, self._saved_ns)
        if seen is None:
            self._plain_ns += (taken_ns - self._plain_ns) * (_MEMORY if self._plain_ns else 1)
            return
        session, calls = self._session(), open_calls()
        if session is not None and calls and seen:
            try:
                _write(session, calls[-1], seen)
            except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
                self._fault(error)
        self._saved_ns -= self._debit_ns(taken_ns) + perf_counter_ns() - began

    def _debit_ns(self, taken_ns: int) -> float:
        """What the digests of a call cost: how much longer it took than calls without, at least what they measured."""
        spent_ns = self._local.spent_ns
        longer_ns = taken_ns - self._plain_ns if self._plain_ns else 0.0
        return min(max(spent_ns, longer_ns), _MAX_DEBIT * spent_ns)

    def _fault(self, error: Exception) -> None:
        session = self._session()
        if session is not None:
            session.fault("layers", error)


def _write(session: Session, call: OpenCall, seen: list[tuple[str, int, Any]]) -> None:
    """Commit one record; without room in the ring, or where inputs or outputs are kept out of it, there is none."""
    withheld = session.withheld
    if withheld is not None and (withheld.keeps_out("model_input") or withheld.keeps_out("model_output")):
        return
    names = np.frombuffer(json.dumps([path for path, _, _ in seen]).encode(), np.uint8)
    hashes = np.array([number for _, number, _ in seen], np.uint64)
    described = describe({"names": names, "hashes": hashes, "sketches": np.stack([sketch for _, _, sketch in seen])})
    head = {"call": call.id, "layers": described.tagged}
    if not session.records.write(Kind.LAYERS, call.key, head, described):
        session.lost.add("layers-not-recorded")
