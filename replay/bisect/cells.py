"""Run recorded calls under chosen settings and say how far the answers are from the recorded bits.

A cell is one choice of factors to restore. Workers are kept for cells that need the same process, so that only
settings that are read when torch is imported cost a start.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recorder.bundle.manifest import Environment
from recorder.bundle.values import JsonValue
from replay.bisect.factors import CALL_FACTORS, DEVICE, LIBRARY, Factor
from replay.bisect.variants import Variants, joined, plain
from replay.compare.comparison import Answer, compare_answers
from replay.exchange import ReadTensor, digest_of, recorded_answer
from replay.numerics.settings import WorkerPlan
from replay.process import Limits
from replay.session import Failed, Job, Outcome, Raised, Returned, Session
from replay.show.text import inert
from replay.verdict import Level

__all__ = ["Cell", "Laboratory"]

#: Workers kept waiting: each has torch loaded, some hundred megabytes.
_WARM_WORKERS = 3

_INTEROP = "torch.num_interop_threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What came of the calls with some factors restored and the others as they are here."""

    restored: frozenset[str]
    calls: int
    exact: int  #: calls that gave the recorded bits
    failed: str = ""  #: why a call could not be run or raised
    max_abs: float | None = None  #: the largest of all calls
    rel_l2: float | None = None
    changed_decisions: int = 0
    margin_over_delta: float | None = None  #: the smallest
    digests: tuple[bytes | None, ...] = field(default=(), repr=False)  #: of the answers, to compare two runs
    differing: tuple[int, ...] = ()  #: ids of the calls that did not give the recorded bits

    @property
    def holds(self) -> bool:
        """Whether every call gave the recorded bits."""
        return self.exact == self.calls


class Laboratory:
    """Runs cells. A context manager: no worker outlives the block."""

    def __init__(
        self,
        read: ReadTensor,
        jobs: Sequence[Job],
        variables: Mapping[str, str],
        *,
        device: str | None,
        limits: Limits,
        library: str | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            read: gives a recorded tensor's bytes.
            jobs: the calls, in order.
            variables: the listed environment variables as they are here.
            device: where calls run while the factor ``device`` is not restored; None: where they were recorded.
            limits: of one worker.
            library: a directory of packages that the factor ``library`` imports first.
        """
        self._variants = Variants(read)
        self._read = read
        self._jobs = list(jobs)
        self._variables = dict(variables)
        self._device, self._limits, self._library = device, limits, library
        self._settings: dict[str, JsonValue] = {}
        self._factors: dict[str, Factor] = {}
        self._sessions: OrderedDict[tuple[object, ...], Session] = OrderedDict()

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *_: object) -> None:
        while self._sessions:
            self._sessions.popitem()[1].__exit__()

    def know(self, here: Environment, factors: Sequence[Factor]) -> None:
        """Take the flags as they are here, to go back to, and what restoring each factor means."""
        self._settings = {name: value for name, value in here.settings.items() if name != _INTEROP}
        self._factors = {factor.name: factor for factor in factors}

    def run(self, restored: frozenset[str], calls: frozenset[int] | None = None) -> Cell:
        """Run the calls with these factors restored.

        Args:
            restored: names of factors.
            calls: ids of the calls to run; None: all.

        Raises:
            BundleInvalid, BundleUnavailable: recorded bytes are not what the manifest says.
        """
        jobs = [job for job in self._jobs if calls is None or job.call.id in calls]
        of_call = restored & frozenset(CALL_FACTORS)
        session = self._session(restored, {job.context.id for job in jobs})
        self._variants.forget()
        singles = [single for job in jobs for single in self._variants.jobs(job, of_call)]
        outcomes: dict[int, list[Outcome]] = {}
        for single, outcome in session.run(singles):
            outcomes.setdefault(single.call.id, []).append(outcome)
        return self._measured(restored, jobs, outcomes)

    def environment(self, restored: frozenset[str]) -> Environment | None:
        """What the worker of a cell that was just run says of itself."""
        contexts = {job.context.id for job in self._jobs}
        session = self._sessions.get(self._key(self._plans(restored, contexts), restored))
        return session.environment if session is not None else None

    def lacking(self, restored: frozenset[str]) -> list[str]:
        """What of the recorded surroundings a cell that was just run did not have."""
        contexts = {job.context.id for job in self._jobs}
        session = self._sessions.get(self._key(self._plans(restored, contexts), restored))
        found = session.not_restored.values() if session is not None else ()
        return list(dict.fromkeys(sentence for sentences in found for sentence in sentences))

    def _plans(self, restored: frozenset[str], contexts: set[int]) -> dict[int, WorkerPlan]:
        plans = {}
        for context in contexts:
            variables: dict[str, str | None] = dict(self._variables)
            settings = dict(self._settings)
            for name in restored & self._factors.keys():
                overlay = self._factors[name].restore.get(context)
                if overlay is not None:
                    variables |= overlay.variables
                    settings |= overlay.settings
            plans[context] = WorkerPlan(
                profile="mixed",
                variables={name: value for name, value in variables.items() if value is not None},
                settings=settings,
                library=self._library if LIBRARY in restored else None,
            )
        return plans

    def _key(self, plans: Mapping[int, WorkerPlan], restored: frozenset[str]) -> tuple[object, ...]:
        processes = (
            (context, tuple(sorted(plan.variables.items())), str(plan.settings.get(_INTEROP)))
            for context, plan in sorted(plans.items())
        )
        return (LIBRARY in restored, DEVICE in restored, *processes)

    def _session(self, restored: frozenset[str], contexts: set[int]) -> Session:
        plans = self._plans(restored, {job.context.id for job in self._jobs} | contexts)
        key = self._key(plans, restored)
        session = self._sessions.pop(key, None)
        if session is None:
            while len(self._sessions) >= _WARM_WORKERS:
                self._sessions.popitem(last=False)[1].__exit__()
            device = None if DEVICE in restored else self._device
            session = Session(self._variants.read, plans, device=device, limits=self._limits)
        session.restore(plans)
        self._sessions[key] = session
        return session

    def _measured(self, restored: frozenset[str], jobs: Sequence[Job], outcomes: dict[int, list[Outcome]]) -> Cell:
        exact, changed, failed = 0, 0, ""
        gaps: dict[str, list[float]] = {"max_abs": [], "rel_l2": [], "margin": []}
        digests: list[bytes | None] = []
        differing = []
        for job in jobs:
            found = outcomes[job.call.id]
            answer = _answer(found)
            digests.append(digest_of(answer) if answer is not None else None)
            problem = next((_problem(each) for each in found if not isinstance(each, Returned)), "")
            if job.call.status == "raised" and job.call.exception is not None:
                same = any(isinstance(each, Raised) and each.type == job.call.exception.type for each in found)
                level, difference = (Level.BIT_EXACT if same else Level.DIVERGED), None
            elif answer is None or job.call.output is None:
                level, difference = Level.DIVERGED, None
                failed = failed or problem or "the answers for single items do not fit together"
            else:
                comparison = compare_answers(plain(recorded_answer(job.call.output, self._read)), answer)
                level, difference = comparison.level, comparison.first_difference
            if level is Level.BIT_EXACT:
                exact += 1
                continue
            differing.append(job.call.id)
            changed += level is Level.DIVERGED
            if difference is not None:
                for name, value in (
                    ("max_abs", difference.max_abs),
                    ("rel_l2", difference.rel_l2),
                    ("margin", difference.margin_over_delta),
                ):
                    if value is not None:
                        gaps[name].append(value)
        return Cell(
            restored=restored,
            calls=len(jobs),
            exact=exact,
            failed=failed,
            max_abs=max(gaps["max_abs"], default=None),
            rel_l2=max(gaps["rel_l2"], default=None),
            changed_decisions=changed,
            margin_over_delta=min(gaps["margin"], default=None),
            digests=tuple(digests),
            differing=tuple(differing),
        )


def _answer(outcomes: Sequence[Outcome]) -> Answer | None:
    answers = [outcome.answer for outcome in outcomes if isinstance(outcome, Returned)]
    return joined(answers) if len(answers) == len(outcomes) else None


def _problem(outcome: Outcome) -> str:
    match outcome:
        case Failed(reason=reason):
            return reason
        case Raised(type=kind, message=message):
            return f"the model raised {kind}: {inert(message, 120)}"
    return ""
