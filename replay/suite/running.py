"""Run a suite's cases against a candidate: one warm worker for all of them, every model loaded anew for every pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from recorder.bundle import Bundle
from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Frame
from recorder.environment import describe_cpu
from replay.load import ConfigInvalid
from replay.numerics.settings import plan_worker
from replay.opening import Opening
from replay.options import ReplayOptions
from replay.process import Limits
from replay.session import Session
from replay.show.text import inert
from replay.suite.document import Case, Suite, ordinary_file
from replay.suite.expectation import Expectation
from replay.suite.judging import Finding, judge_expectation
from replay.suite.passes import CallPasses, Passes, PipelinePasses
from replay.suite.seen import Seen

__all__ = ["CaseResult", "STATUSES", "SuiteRunner", "exit_code_of"]

#: From good to bad; of a run the worst counts, see `exit_code_of`.
STATUSES = ("pass", "cannot-run", "flaky", "fail")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What became of one case."""

    name: str
    status: str  #: one of STATUSES
    findings: tuple[Finding, ...] = ()  #: of the pass that says most
    reason: str = ""  #: one sentence: why it could not be run, or how passes differ
    seconds: float = 0.0

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a reader has to know of a case that did not pass."""
        told = [
            f"expected {inert(each.expected, 200)}, got {inert(each.got, 300)}"
            + (f" ({inert(each.evidence, 400)})" if each.evidence else "")
            for each in self.findings
            if each.holds is not True and each.got
        ]
        unsaid = [self.reason, *(each.evidence for each in self.findings if each.holds is None and not each.got)]
        return (*told, *(inert(why, 600) for why in dict.fromkeys(unsaid) if why and not any(why in it for it in told)))


def exit_code_of(results: list[CaseResult]) -> int:
    """0: every case passes · 1: some fail · 5: none fails and some are flaky · 3: some cannot be run, or none was."""
    found = {result.status for result in results}
    if "fail" in found:
        return 1
    if "flaky" in found:
        return 5
    return 3 if "cannot-run" in found or not results else 0


class SuiteRunner:
    """Holds the worker between cases. A context manager: no worker outlives the block."""

    def __init__(self, suite: Suite, options: ReplayOptions, opening: Opening | None = None) -> None:
        """Start nothing yet.

        Args:
            suite: as read.
            options: the candidate: ``model``, ``changes.weights`` or ``pipeline``; none of them means the recorded
                model. ``repeat`` is how often each case is run.
            opening: how its bundles are opened.
        """
        self._suite = suite
        self._options = options
        self._opening = opening or Opening()
        self._session: Session | None = None
        self._limits = Limits(timeout_seconds=options.timeout_seconds, memory_bytes=options.memory_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker. May be called twice."""
        if self._session is not None:
            self._session.__exit__()
        self._session = None

    def run(self, case: Case) -> CaseResult:
        """Run one case; what is wrong with it is told in its result and never raised.

        Raises:
            ConfigInvalid: the candidate itself cannot be used, whatever the case.
        """
        begun = time.monotonic()
        try:
            result = self._run(case)
        except ConfigInvalid:
            raise
        except (BundleError, OSError, ValueError) as error:
            result = CaseResult(name=case.name, status="cannot-run", reason=f"{inert(error, 500)}")
        except Exception as error:  # noqa: BLE001 - a fault of replay itself must not end the others
            self.close()  # who knows what the worker was in the middle of
            why = f"{type(error).__name__}: {inert(error, 300)}; this is an error of replay itself"
            result = CaseResult(name=case.name, status="cannot-run", reason=why)
        return replace(result, seconds=time.monotonic() - begun)

    def _run(self, case: Case) -> CaseResult:
        path = self._suite.folder / case.file
        if not ordinary_file(path):
            why = "it is no ordinary file" if path.is_symlink() or path.exists() else "it is not there"
            return _cannot(case, f"{case.file}: {why}; add the case again, or take its bundle from version control")
        with self._opening.open(str(path)) as bundle:
            if bundle.id != case.bundle:
                return _cannot(case, f"{case.file} is another bundle than the suite names; add the case again")
            frame = next((each for each in bundle.manifest.frames if each.id == case.frame), None)
            if frame is None:
                return _cannot(case, f"{case.file} has no frame {case.frame}; add the case again")
            with self._passes(bundle, frame) as passes:
                return self._judged(case, passes)

    def _passes(self, bundle: Bundle, frame: Frame) -> Passes:
        # Models lie beside the suite's bundles, or beside the incidents that a suite is a folder of.
        folder = self._suite.folder.absolute()
        beside = folder / "bundle" if (folder / "models").is_dir() else folder
        options = replace(self._options, bundle_path=beside)
        cpu = describe_cpu()
        plans = {
            context.id: plan_worker(context.environment, options.numerics, cpu) for context in bundle.manifest.contexts
        }
        if options.pipeline is not None:
            return PipelinePasses(bundle, frame, plans, options, self._limits)
        if self._session is None:
            self._session = Session(bundle.tensor_bytes, plans, device=options.device, limits=self._limits)
        else:
            self._session.turn_to(bundle.tensor_bytes, plans)
        return CallPasses(bundle, frame, self._session, options)

    def _judged(self, case: Case, passes: Passes) -> CaseResult:
        seen: list[Seen] = []
        found: list[tuple[Finding, ...]] = []
        for _ in range(self._options.repeat):
            one = passes.run()
            varied: Callable[[Expectation], list[tuple[str, Seen]]] = passes.vary
            seen.append(one)
            found.append(tuple(judge_expectation(each, case, one, self._suite.folder, varied) for each in case.expect))
            if one.cannot:
                break
        return _summed_up(case, seen, found)


def _summed_up(case: Case, seen: list[Seen], found: list[tuple[Finding, ...]]) -> CaseResult:
    """A failure is one only if the candidate agrees with itself; where it does not, the case is flaky."""
    statuses = [_status(findings) for findings in found]
    shown = found[max(range(len(found)), key=lambda each: STATUSES.index(statuses[each]))]
    steady = len({each.digest for each in seen}) == 1
    if len(set(statuses)) > 1 or ("fail" in statuses and not steady and len({each.text for each in seen}) > 1):
        said = " · ".join(inert(each.text, 100) for each in seen)
        reason = f"{len(seen)} passes of the candidate disagree: {said}; make it deterministic, or run more passes"
        return CaseResult(name=case.name, status="flaky", findings=shown, reason=reason)
    status = statuses[0]
    reason = next((each.evidence for each in shown if each.holds is None), "") if status == "cannot-run" else ""
    if not steady and not reason:
        reason = "its passes differ in their numbers, not in what they decide"
    return CaseResult(name=case.name, status=status, findings=shown, reason=reason)


def _status(findings: tuple[Finding, ...]) -> str:
    if any(each.holds is False for each in findings):
        return "fail"
    return "cannot-run" if any(each.holds is None for each in findings) else "pass"


def _cannot(case: Case, why: str) -> CaseResult:
    return CaseResult(name=case.name, status="cannot-run", reason=why)
