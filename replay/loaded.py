"""The models a worker holds: which candidate each was loaded from, and which are let go for another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from replay.outcome import Job
from replay.process import ModelRefused, Worker
from replay.sources import Candidate

__all__ = ["LoadedModels", "Loading"]

#: Models kept loaded at once; a bundle may name many, and each takes memory.
_MAX_LOADED = 8


@dataclass(slots=True)
class Loading:
    """What came of the candidates of one model."""

    chosen: Candidate | None = None
    key: int = -1  #: the worker's name for it
    notes: list[str] = field(default_factory=list)  #: what of it is not the recorded one
    refused: str = ""  #: why no candidate could be loaded


class LoadedModels:
    """What was found out about each model of a bundle, and which of them the present worker holds.

    A model is one laid out in one way on one device: jobs that differ in any of it are of two.
    """

    def __init__(self) -> None:
        self._loadings: dict[tuple[Any, ...], Loading] = {}
        self._held: list[int] = []  # keys, the longest held first

    def let_go(self) -> None:
        """Load every model anew before its next call; which candidate it comes from stays known."""
        self._held.clear()

    def clear(self) -> None:
        """Forget all models."""
        self._loadings.clear()
        self._held.clear()

    def of(self, job: Job, device: str) -> Loading | None:
        """What came of a job's model on a device; None before it was first tried."""
        return self._loadings.get(_identity(job, device))

    def holds(self, job: Job, device: str) -> bool:
        """Whether a job's model can be called at once."""
        loading = self.of(job, device)
        return loading is not None and loading.key in self._held

    def load(self, job: Job, device: str, worker: Worker, profile: str) -> Loading:
        """Have a worker load a job's model from the first candidate it takes, unless it holds it.

        Raises:
            WorkerDied: it died of it.
        """
        loading = self._loadings.setdefault(_identity(job, device), Loading(key=len(self._loadings)))
        if loading.refused or loading.key in self._held:
            return loading
        refusals = []
        for candidate in [loading.chosen] if loading.chosen else job.candidates:
            drop = self._held[: max(0, len(self._held) - _MAX_LOADED + 1)]
            self._held = [key for key in self._held if key not in drop]
            try:
                request = {**candidate.request, "model": loading.key, "drop": drop, "profile": profile}
                request["device"] = device
                loading.notes = worker.load(request, candidate.graph)
            except ModelRefused as refused:
                refusals.append(str(refused))
                continue
            loading.chosen = candidate
            self._held.append(loading.key)
            return loading
        loading.chosen, loading.refused = None, " ".join([*refusals, *job.reasons])
        return loading


def _identity(job: Job, device: str) -> tuple[Any, ...]:
    graphs = tuple(candidate.graph_digest for candidate in job.candidates)
    return job.model.id, job.variant, graphs, device
