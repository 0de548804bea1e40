"""One pass of a candidate over a case: the recorded calls in a model, or the recorded pictures in a pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame, Trigger
from recorder.bundle.values import has_removed
from recorder.signals import reevaluate
from replay.compare.comparison import compare_answers
from replay.conclusion import reaches
from replay.exchange import recorded_answer
from replay.failure import failure_shows, frame_fails
from replay.jobs import plan_jobs
from replay.judge import judge
from replay.numerics.settings import WorkerPlan
from replay.options import ReplayOptions
from replay.packed import PackedModels
from replay.pipeline.run import PipelineRunner, Ran
from replay.process import Limits
from replay.session import Failed, Job, Outcome, Raised, Returned, Session
from replay.show.text import inert
from replay.suite.expectation import Expectation
from replay.suite.seen import Seen, View
from replay.verdict import CallVerdict, Level

__all__ = ["CallPasses", "Passes", "PipelinePasses"]


class Passes(ABC):
    """Runs one case, as often as asked. A context manager."""

    def __init__(self, bundle: Bundle, frame: Frame) -> None:
        self._bundle = bundle
        self._frame = frame
        triggers = bundle.manifest.incident.triggers
        self._trigger: Trigger | None = next((each for each in triggers if each.frame == frame.id), None)
        #: What came before is run too: a case keeps earlier frames only because they matter.
        self._until = [each for each in bundle.manifest.frames if each.id <= frame.id]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of what the passes needed."""

    @abstractmethod
    def run(self) -> Seen:
        """One pass, with nothing left over from the last one."""

    @abstractmethod
    def vary(self, expectation: Expectation) -> list[tuple[str, Seen]]:
        """The frame once with each change of its picture; up to the first that cannot be run."""


class CallPasses(Passes):
    """The recorded model calls, in the candidate."""

    def __init__(self, bundle: Bundle, frame: Frame, session: Session, options: ReplayOptions) -> None:
        super().__init__(bundle, frame)
        self._session = session
        self._packed = PackedModels(bundle)
        self._jobs = plan_jobs(
            bundle.manifest,
            self._until,
            model=options.model,
            model_directory=options.model_directory,
            models=options.models,
            weights=options.changes.weights,
            bundle_path=options.bundle_path,
            config=options.config,
            packed=self._packed,
        )
        self._jobs = [job for job in self._jobs if job.call.status != "open" or job.call.id in frame.calls]

    def close(self) -> None:
        self._packed.__exit__()

    def run(self) -> Seen:
        own = {job.call.id for job in self._jobs if job.call.id in self._frame.calls}
        if not own:
            return Seen(cannot=f"no model call was recorded in frame {self._frame.id}: give --pipeline pkg.mod:predict")
        self._session.forget_models()
        seen = Seen()
        verdicts: list[CallVerdict] = []
        shown: list[bool | None] = []
        for job, outcome in self._session.run(self._jobs):
            if job.call.id not in own:
                continue
            verdicts.append(judge(job, outcome, self._bundle.tensor_bytes))
            shown.append(failure_shows(self._trigger, job.call, outcome))
            seen = self._seen(job, outcome, verdicts, shown)
            if seen.cannot or seen.raised:
                own.clear()  # what follows in the frame would not have been called
        return seen

    def vary(self, expectation: Expectation) -> list[tuple[str, Seen]]:
        why = "a picture can only be changed in front of your own preprocessing: give --pipeline pkg.mod:predict"
        return [(str(edit), Seen(cannot=why)) for edit in expectation.edits[:1]]

    def _seen(self, job: Job, outcome: Outcome, verdicts: list[CallVerdict], shown: list[bool | None]) -> Seen:
        if isinstance(outcome, Failed):
            return Seen(cannot=outcome.reason)
        if isinstance(outcome, Raised) and outcome.cannot is not None:
            return Seen(cannot=outcome.cannot)
        same = _same(verdicts)
        difference = next((each.first_difference.what for each in verdicts if each.first_difference is not None), "")
        reason = next((each.reason for each in verdicts if each.reason), "")
        fails = None if self._trigger is None else frame_fails(self._trigger.kind, shown)
        if isinstance(outcome, Returned):
            frames = job.call.frames
            row = frames.index(self._frame.id) if len(frames) > 1 and self._frame.id in frames else None
            view = View(outcome.answer, row)
            return Seen(views=(view,), same=same, difference=difference or reason, fails=fails)
        said = f"{outcome.type}: {inert(outcome.message, 200)}"
        return Seen(raised=said, same=same, difference=difference or reason, fails=fails)


def _same(verdicts: list[CallVerdict]) -> bool | None:
    if any(each.level in (Level.NOT_REPLAYABLE, Level.INCONCLUSIVE) for each in verdicts):
        return None
    return all(reaches(each.level, "decision") for each in verdicts)


class PipelinePasses(Passes):
    """The recorded pictures, in the user's own function."""

    def __init__(
        self, bundle: Bundle, frame: Frame, plans: Mapping[int, WorkerPlan], options: ReplayOptions, limits: Limits
    ) -> None:
        super().__init__(bundle, frame)
        assert options.pipeline is not None  # noqa: S101 - asked by who chose this class
        self._begun = False
        self._runner = PipelineRunner(
            bundle, plans, options.pipeline, options.model_directory, device=options.device, limits=limits
        )

    def close(self) -> None:
        self._runner.__exit__(None, None, None)

    def run(self) -> Seen:
        if self._begun:
            self._runner.restart()
        self._begun = True
        for frame in self._until[:-1]:
            self._runner.run(frame)
        return self._seen(self._runner.run(self._frame))

    def vary(self, expectation: Expectation) -> list[tuple[str, Seen]]:
        found: list[tuple[str, Seen]] = []
        for edit in expectation.edits:
            found.append((str(edit), self._seen(self._runner.run(self._frame, (edit,)))))
            if found[-1][1].cannot:
                break
        return found

    def _seen(self, ran: Ran) -> Seen:
        if ran.failed is not None:
            return Seen(cannot=ran.failed)
        recorded = self._frame.exception.type if self._frame.exception is not None else None
        if ran.raised is not None:
            fails = True if self._trigger is not None else None
            said = f"{ran.raised}: {ran.message}"
            return Seen(raised=said, same=ran.raised == recorded, difference="it raised", fails=fails)
        service = [View(ran.answer)] if ran.answer is not None and ran.answer.value is not None else []
        models = [View(call.output) for call in ran.calls if call.output is not None]
        model = models[-1:] if ran.calls and ran.calls[-1].output is not None else []
        same, difference = self._compared(service, model) if recorded is None else (False, "an exception was recorded")
        return Seen(views=(*service, *model), same=same, difference=difference, fails=self._fires(models, service))

    def _compared(self, service: list[View], model: list[View]) -> tuple[bool | None, str]:
        """The service's own answer where it was recorded, else the last model's."""
        by_id = {call.id: call for call in self._bundle.manifest.calls}
        outer = [by_id[each] for each in self._frame.calls if by_id[each].parent is None]
        call = outer[-1] if outer else None
        row = None
        if call is not None and len(call.frames) > 1 and self._frame.id in call.frames:
            row = call.frames.index(self._frame.id)
        for value, item, views in ((self._frame.output, None, service), (call.output if call else None, row, model)):
            if value is None or has_removed(value) or not views:
                continue
            then = View(recorded_answer(value, self._bundle.tensor_bytes), item)
            if then.names and views[0].names:
                return then.names == views[0].names, f"recorded {then.text}"
            comparison = compare_answers(then.answer, views[0].answer)
            return reaches(comparison.level, "decision"), f"recorded {then.text or 'another answer'}"
        return None, "no answer was recorded that this one could be held against"

    def _fires(self, models: list[View], service: list[View]) -> bool | None:
        """By all the models' answers; where none was seen the service's own, as far as it tells."""
        if self._trigger is None:
            return None
        kind, parameters = self._trigger.kind, self._trigger.parameters
        if kind == "exception":
            return False
        shown = [
            reevaluate(kind, parameters, each.answer.value, each.answer.tensors)
            for each in models or service
            if each.answer.value is not None
        ]
        found = frame_fails(kind, shown)
        return found if models or found or kind == "low_confidence" else None
