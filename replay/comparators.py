"""Comparators that the user's own installed packages register, run in a process that may touch nothing.

Entry point group ``vision_flight_recorder.comparators``; used only when the user names one with ``--task``. A bundle
cannot choose one. The answers it is given are a stranger's bytes, so it runs where models run: in a worker without
network and without write access, and what it says is checked before it is believed.
"""

from __future__ import annotations

import importlib.metadata
import math
import site
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from recorder.bundle.values import TensorValue, tensors_of
from replay.compare.comparison import Answer
from replay.compare.decision import TASKS, Decision
from replay.exchange import Outgoing
from replay.numerics.settings import WorkerPlan
from replay.process import Limits, Worker, WorkerDied
from replay.show.text import inert

__all__ = ["GROUP", "ComparatorFailed", "RegisteredComparator", "registered_comparators"]

GROUP = "vision_flight_recorder.comparators"

#: A comparator looks at one answer; one that takes longer hangs.
_SECONDS = 300.0


class ComparatorFailed(Exception):
    """A comparator that gave no judgement; the message is one sentence."""


def registered_comparators() -> dict[str, str]:
    """Return ``{name: "package.module:function"}`` of the installed packages, never of the working directory."""
    places = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions(path=places):
        with suppress(Exception):  # a half-removed package has no metadata
            for entry in distribution.entry_points:
                if entry.group == GROUP and entry.name not in TASKS:
                    found.setdefault(entry.name, entry.value)
    return found


class RegisteredComparator:
    """One comparator in its worker. A context manager; the worker starts with the first comparison."""

    def __init__(self, name: str) -> None:
        """Find it, without importing it.

        Raises:
            ValueError: nothing of that name is built in or registered; the message lists what is.
        """
        known = registered_comparators()
        if name not in known:
            choices = ", ".join([*TASKS, *sorted(inert(each, 40) for each in known)])
            raise ValueError(f"--task is one of {choices}, not {name!r}")
        self.name, self._function = name, known[name]
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def __call__(self, recorded: Answer, replayed: Answer, thresholds: Sequence[float]) -> Decision:
        """Ask whether two answers are the same decision.

        Raises:
            ComparatorFailed: it raised, hung, died, or answered something else than a judgement.
        """
        bytes_of = {
            id(tensor): answer.tensors[path]
            for answer in (recorded, replayed)
            for path, tensor in tensors_of(answer.value)
        }

        def read(tensor: TensorValue) -> bytes:
            return bytes_of[id(tensor)]

        outgoing = Outgoing(read)
        request: dict[str, Any] = {
            "function": self._function,
            "recorded": outgoing.add(recorded.value) if recorded.value is not None else None,
            "replayed": outgoing.add(replayed.value) if replayed.value is not None else None,
            "thresholds": [float(each) for each in thresholds],
        }
        try:
            if self._worker is None:
                self._worker = Worker(WorkerPlan(profile="here"), limits=Limits(timeout_seconds=_SECONDS))
            reply = self._worker.compare(request, outgoing.parts)
        except WorkerDied as error:
            self.__exit__()
            raise ComparatorFailed(f"the comparator {self.name} gave no judgement: {error}") from error
        if reply.get("status") != "ok":
            why = inert(reply.get("reason"), 300)
            raise ComparatorFailed(f"the comparator {self.name} gave no judgement: {why}")
        return self._decision(reply)

    def _decision(self, reply: dict[str, Any]) -> Decision:
        same, what, margin = reply.get("same"), reply.get("what"), reply.get("margin_over_delta")
        if not isinstance(same, bool):
            raise ComparatorFailed(f"the comparator {self.name} did not say True or False")
        finite = isinstance(margin, int | float) and not isinstance(margin, bool) and math.isfinite(margin)
        said = inert(what, 200) if isinstance(what, str) and what else "the same" if same else "not the same"
        return Decision(
            path="",
            task=inert(self.name, 80),
            same=same,
            what=f"{inert(self.name, 80)}: {said}",
            margin_over_delta=float(margin) if finite and margin is not None else None,
        )
