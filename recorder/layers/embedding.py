"""An embedding at capture: what a named layer of an attached model gave, pooled to a few hundred numbers.

Opt-in (``attach(model, embedding="features.18")``). The pooled numbers are written as a small record while the call is
open, for the sealer's detectors alone: they are not sealed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import torch

from recorder.capture import describe
from recorder.governor import Admission
from recorder.hooks.call import open_calls
from recorder.layers.watching import forget, watch
from recorder.privacy import Level
from recorder.records import Kind

if TYPE_CHECKING:
    from recorder.session import Session

__all__ = ["MAX_EMBEDDING", "EmbeddingCapture", "pooled"]

#: Longer vectors are averaged over neighbours: a watcher's work and a reference's size stay bounded.
MAX_EMBEDDING = 512
#: Items of a batch whose embeddings are recorded.
MAX_ITEMS = 256


class EmbeddingCapture:
    """Watches one layer of one attached module.

    Args:
        module: the attached module.
        layer: path of the layer in it.
        session: gives the recording of this process.

    Raises:
        ValueError: there is no such layer.
    """

    def __init__(self, module: torch.nn.Module, layer: str, session: Callable[[], Session | None]) -> None:
        found = dict(module.named_modules()).get(layer)
        if found is None or found is module:
            raise ValueError(f"embedding={layer!r} names no layer of the model; see model.named_modules()")
        self._session = session
        self._numbers = frozenset({id(found)})
        watch(self, {id(found): layer})
        weakref.finalize(module, forget, self, self._numbers)

    def remove(self) -> None:
        """Stop watching."""
        forget(self, self._numbers)

    def see(self, path: str, output: Any) -> None:
        """Record what the layer gave, if an outermost call is open that is recorded; never raises."""
        if torch.compiler.is_compiling():
            return
        calls, session = open_calls(), self._session()
        if session is None or not calls or calls[-1].session is not session or calls[-1].admission == Admission.NOTHING:
            return
        began = perf_counter_ns()
        try:
            _write(session, calls[-1], output)
        except Exception as error:  # noqa: BLE001  # nothing of ours reaches the host
            session.fault("embedding", error)
        session.spent_ns += perf_counter_ns() - began


def pooled(output: Any) -> torch.Tensor | None:
    """Return (items, d) float32 of what a layer gave, d at most 512; None where that is no batch of features.

    Maps (N, C, H, W …) are averaged over their places, sequences (N, T, C) over T, vectors (N, C) are taken as they
    are; more than 512 numbers are averaged in neighbouring groups. Of a tuple or list the first tensor counts.
    """
    if isinstance(output, tuple | list):
        output = next((each for each in output if isinstance(each, torch.Tensor)), None)
    if not isinstance(output, torch.Tensor) or type(output) not in (torch.Tensor, torch.nn.Parameter):
        return None
    if output.dim() < 2 or not output.is_floating_point() or not output.numel() or output.layout != torch.strided:
        return None
    with torch.no_grad():
        features = output.detach()[:MAX_ITEMS]
        if features.dim() == 3:
            features = features.mean(dim=1, dtype=torch.float32)
        elif features.dim() > 3:
            features = features.flatten(2).mean(dim=2, dtype=torch.float32)
        features = features.to(torch.float32)
        if features.shape[1] > MAX_EMBEDDING:
            features = torch.nn.functional.adaptive_avg_pool1d(features[:, None], MAX_EMBEDDING)[:, 0]
        return features.contiguous()


def _write(session: Session, call: Any, output: Any) -> None:
    """Commit one record; where inputs or outputs are kept out of the ring, or redacted, there is none."""
    policy = session.settings.privacy
    if policy is not None and any(
        policy.level_of(field) is not Level.FULL for field in ("model_input", "model_output")
    ):
        return
    features = pooled(output)
    if features is None:
        session.lost.add("embedding-not-understood")
        return
    described = describe(features)
    head = {"call": call.id, "frames": list(call.frames), "embedding": described.tagged}
    if not session.records.write(Kind.EMBEDDING, call.key, head, described):
        session.lost.add("embedding-not-recorded")
