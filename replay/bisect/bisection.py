"""Which of the settings that are not here as they were recorded explains the recorded bits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from recorder.bundle import Bundle
from recorder.bundle.manifest import Environment
from recorder.bundle.values import has_removed
from recorder.environment import VARIABLES, describe_cpu
from recorder.sinks.s3.address import S3Address
from replay.bisect.cells import Cell, Laboratory
from replay.bisect.factors import CALL_FACTORS, DEVICE, ENVIRONMENT_FACTORS, LIBRARY, Factor, active_factors
from replay.bisect.search import OutOfTime, smallest_sets
from replay.jobs import chosen_frames, plan_jobs
from replay.load import UserConfig
from replay.numerics.settings import plan_worker
from replay.packed import PackedModels
from replay.process import Limits
from replay.session import Job, recorded_device, was_compiled
from replay.show.text import inert

__all__ = ["Bisection", "BisectOptions", "Outcome", "bisect_bundle"]

#: Calls that a search runs again and again; what was found is verified on all of them.
_WITNESSES = 3

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectOptions:
    """What to explain and what it may take. The defaults are those of the command line."""

    frames: frozenset[int] | None = None  #: ids; None: all
    model: tuple[str, ...] = ()  #: see `replay.options.ReplayOptions`
    model_directory: str | None = None
    models: str | None = None
    bundle_path: Path | S3Address | None = None
    config: UserConfig | None = None
    device: str | None = None  #: where to run; None: where it was recorded, and then it is no factor
    timeout_seconds: float | None = None  #: for one call of a model
    budget_seconds: float = 600.0  #: for the search; what is known by then is reported
    library: tuple[str, str] | None = None  #: ("torch==2.12.0", directory it was installed into), from ``--with``
    progress: Progress | None = None  #: called with (cells done, cells expected at most)


class Outcome(StrEnum):
    """How a bisection ended."""

    NOTHING_MATTERS = "no setting matters"  #: the recorded bits come with the settings as they are here
    EXPLAINED = "explained"
    UNEXPLAINED = "not explained by settings"  #: everything was restored and the bits differ
    INCONCLUSIVE = "inconclusive"  #: not everything could be restored, or the time was up
    NOT_REPLAYABLE = "not replayable here"
    NONDETERMINISTIC = "nondeterministic here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """What was found, and every cell that was tried."""

    outcome: Outcome
    explanations: tuple[frozenset[str], ...]  #: smallest sets of factors that give the recorded bits, each by itself
    factors: tuple[Factor, ...]  #: those that are not here as they were recorded
    skipped: dict[str, str]  #: factor to the reason why it was not tried
    cells: tuple[Cell, ...]  #: in the order they were run; a cell of fewer calls is one of the search
    calls: int
    not_restored: tuple[str, ...] = ()
    reason: str = ""  #: one sentence, where there is no explanation
    without: Cell | None = None  #: everything restored but the explanation
    overdetermined: bool = False  #: the recorded bits come without the explanation too, if all the rest is restored


def bisect_bundle(bundle: Bundle, options: BisectOptions | None = None) -> Bisection:
    """Restore one setting at a time and find the smallest set that gives the recorded bits.

    Raises:
        ValueError: a wanted frame is not in the bundle, or the model locations cannot be used (ConfigInvalid).
        BundleInvalid, BundleUnavailable: the bundle is not what it says, or cannot be read to the end.
    """
    with PackedModels(bundle) as packed:
        return _Bisecting(bundle, options or BisectOptions(), packed).result()


class _Bisecting:
    def __init__(self, bundle: Bundle, options: BisectOptions, packed: PackedModels) -> None:
        self._bundle, self._options = bundle, options
        planned = plan_jobs(
            bundle.manifest,
            chosen_frames(bundle.manifest, options.frames),
            model=options.model,
            model_directory=options.model_directory,
            models=options.models,
            bundle_path=options.bundle_path,
            config=options.config,
            packed=packed,
        )
        self._jobs = [job for job in planned if _has_answer(job)]
        self._variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
        self._factors: list[Factor] = []
        self._skipped: dict[str, str] = {}
        self._refused: list[str] = []  #: sentences: recorded settings that no cell has
        self._cells: list[Cell] = []
        self._witnesses: frozenset[int] | None = None
        self._deadline = time.monotonic() + options.budget_seconds

    def result(self) -> Bisection:
        if not self._jobs:
            return self._ended(Outcome.NOT_REPLAYABLE, reason="no call with a recorded answer is in these frames")
        if refused := next((" ".join(job.reasons) for job in self._jobs if not job.candidates), ""):
            return self._ended(Outcome.NOT_REPLAYABLE, reason=refused)
        limits = Limits(timeout_seconds=self._options.timeout_seconds)
        library = self._options.library[1] if self._options.library else None
        with Laboratory(
            self._bundle.tensor_bytes,
            self._jobs,
            self._variables,
            device=self._options.device,
            limits=limits,
            library=library,
        ) as laboratory:
            return self._search(laboratory)

    def _search(self, laboratory: Laboratory) -> Bisection:
        nothing: frozenset[str] = frozenset()
        base = self._run(laboratory, nothing)
        here = laboratory.environment(nothing)
        if here is None or (base.failed and not any(base.digests)):
            return self._ended(Outcome.NOT_REPLAYABLE, reason=base.failed)
        self._find_factors(laboratory, here)
        everything = frozenset(factor.name for factor in self._factors)
        again = laboratory.run(nothing)
        if again.digests != base.digests:
            reason = "two runs with the same settings gave different bits"
            return self._ended(Outcome.NONDETERMINISTIC, reason=reason)
        if base.holds:
            return self._ended(Outcome.NOTHING_MATTERS)
        complete = self._run(laboratory, everything)
        if LIBRARY in everything and not complete.holds:  # perhaps the installed version was the right one
            complete, everything = self._without_library(laboratory, complete, everything)
        lacking = [*self._refused, *laboratory.lacking(everything)]
        if not complete.holds:
            return self._unexplained(laboratory, complete, lacking)
        self._choose_witnesses(laboratory, base, everything)
        try:
            found = smallest_sets(
                [factor.name for factor in self._factors],
                lambda chosen: self._holds(laboratory, chosen),
                lambda: time.monotonic() > self._deadline,
            )
        except OutOfTime as late:
            known = late.holding if late.holding is not None else everything
            reason = "the time for the search was up; a smaller set may do (--budget)"
            return self._ended(Outcome.EXPLAINED, (known,), lacking=lacking, reason=reason)
        return self._verified(laboratory, found, everything, lacking)

    def _find_factors(self, laboratory: Laboratory, here: Environment) -> None:
        cpu = describe_cpu()
        contexts = {job.context.id: job.context for job in self._jobs}
        faithful = {each: plan_worker(context.environment, "faithful", cpu) for each, context in contexts.items()}
        self._refused = list(dict.fromkeys(each for plan in faithful.values() for each in plan.not_restored))
        self._factors = active_factors(self._jobs, faithful, self._variables, here)
        if self._options.library is not None:
            version = str(here.libraries.get("torch.version"))
            self._factors.append(Factor(name=LIBRARY, recorded=self._options.library[0], here=f"torch {version}"))
        recorded = sorted({recorded_device(job.call) for job in self._jobs})
        device = self._options.device
        if device is None:
            self._skipped[DEVICE] = "no other device was named: --device"
        elif recorded == [device]:
            self._skipped[DEVICE] = "here as it was recorded"
        else:
            self._factors.append(Factor(name=DEVICE, recorded=inert(", ".join(recorded), 60), here=device))
        active = {factor.name for factor in self._factors}
        for name in (*CALL_FACTORS, *ENVIRONMENT_FACTORS):
            if name not in active:
                alike = "no call has a batch that can be taken apart" if name == "batch" else "here as it was recorded"
                self._skipped[name] = alike
        self._skipped["compile"] = (
            "the recorded calls were compiled; a replay worker may start no compiler, so they ran eagerly in every cell"
            if _compiled(self._jobs)
            else "the recorded calls were not compiled"
        )
        if self._options.library is None:
            self._skipped[LIBRARY] = "no other version was named: --with torch==X"
        laboratory.know(here, self._factors)

    def _without_library(
        self, laboratory: Laboratory, complete: Cell, everything: frozenset[str]
    ) -> tuple[Cell, frozenset[str]]:
        """Leave the other version of a library out where the recorded bits come without it only."""
        others = everything - {LIBRARY}
        cell = self._run(laboratory, others)
        if not cell.holds:
            return complete, everything
        [library] = [factor for factor in self._factors if factor.name == LIBRARY]
        self._factors.remove(library)
        why = complete.failed or "the bits are others with it"
        self._skipped[LIBRARY] = f"{library.recorded} is not what was recorded: {why}"
        return cell, others

    def _unexplained(self, laboratory: Laboratory, complete: Cell, lacking: list[str]) -> Bisection:
        """Even with everything restored the bits are others: say what each factor changes all the same."""
        for factor in self._factors:
            if time.monotonic() > self._deadline:
                break
            self._run(laboratory, frozenset({factor.name}))
        if complete.failed:
            return self._ended(Outcome.NOT_REPLAYABLE, lacking=lacking, reason=complete.failed)
        doubt = [*lacking, *([self._skipped["compile"]] if _compiled(self._jobs) else [])]
        if doubt:
            reason = f"with all settings restored that can be the bits still differ, and {doubt[0]}"
            return self._ended(Outcome.INCONCLUSIVE, lacking=lacking, reason=reason)
        reason = "with every recorded setting restored the bits still differ: look at weights, model code and inputs"
        return self._ended(Outcome.UNEXPLAINED, reason=reason)

    def _choose_witnesses(self, laboratory: Laboratory, base: Cell, everything: frozenset[str]) -> None:
        """Search on a few calls, if these alone still behave as they do among the others (a model may keep state)."""
        if len(self._jobs) <= _WITNESSES:
            return
        some = frozenset(base.differing[:_WITNESSES])
        if self._run(laboratory, everything, some).holds and not self._run(laboratory, frozenset(), some).holds:
            self._witnesses = some

    def _holds(self, laboratory: Laboratory, chosen: frozenset[str]) -> bool:
        for cell in self._cells:
            if cell.restored == chosen and (cell.calls == len(self._jobs) or not cell.holds):
                return cell.holds
        return self._run(laboratory, chosen, self._witnesses).holds

    def _verified(
        self, laboratory: Laboratory, found: list[frozenset[str]], everything: frozenset[str], lacking: list[str]
    ) -> Bisection:
        """Both ways: what was found gives the recorded bits of every call; all the rest without it does not."""
        sure = [each for each in found if self._full(laboratory, each).holds]
        if not sure:  # true of the witnesses and not of every call
            return self._ended(
                Outcome.EXPLAINED,
                (everything,),
                lacking=lacking,
                reason="no smaller set of settings gives the recorded bits of every call",
            )
        rest = everything - sure[0]
        without = self._full(laboratory, rest) if rest else None
        return self._ended(
            Outcome.EXPLAINED,
            tuple(sure),
            lacking=lacking,
            without=without,
            overdetermined=without is not None and without.holds,
        )

    def _full(self, laboratory: Laboratory, restored: frozenset[str]) -> Cell:
        for cell in self._cells:
            if cell.restored == restored and cell.calls == len(self._jobs):
                return cell
        return self._run(laboratory, restored)

    def _run(self, laboratory: Laboratory, restored: frozenset[str], calls: frozenset[int] | None = None) -> Cell:
        cell = laboratory.run(restored, calls)
        self._cells.append(cell)
        if self._options.progress is not None:
            expected = max(len(self._cells), 5 + 2 * len(self._factors))
            self._options.progress(len(self._cells), expected)
        return cell

    def _ended(
        self,
        outcome: Outcome,
        explanations: Sequence[frozenset[str]] = (),
        *,
        lacking: Sequence[str] = (),
        reason: str = "",
        without: Cell | None = None,
        overdetermined: bool = False,
    ) -> Bisection:
        return Bisection(
            outcome=outcome,
            explanations=tuple(explanations),
            factors=tuple(self._factors),
            skipped=dict(self._skipped),
            cells=tuple(self._cells),
            calls=len(self._jobs),
            not_restored=tuple(lacking),
            reason=reason,
            without=without,
            overdetermined=overdetermined,
        )


def _compiled(jobs: Sequence[Job]) -> bool:
    """Whether a model ran through torch.compile."""
    return any(was_compiled(job.model) for job in jobs)


def _has_answer(job: Job) -> bool:
    """Whether there is something to compare with."""
    if job.call.status == "returned":
        return job.call.output is not None and not has_removed(job.call.output)
    return job.call.status == "raised"
