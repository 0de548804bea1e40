"""Replay a bundle: every outermost call of its frames run again, compared, and summed up in a verdict."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from recorder.bundle import Bundle, PixelsDiffer
from recorder.bundle.manifest import Call, Environment, Frame, Manifest
from recorder.environment import describe_cpu
from replay.class_names import names_for
from replay.comparators import RegisteredComparator
from replay.compare.comparison import Answer
from replay.compare.decision import TASKS
from replay.conclusion import conclude, exit_code_of, reaches
from replay.doubt import qualify, remedies_for
from replay.exchange import digest_of, kept, recorded_answer
from replay.failure import failure_shows, frame_fails
from replay.frames import thinned_frame, verdict_of_calls
from replay.jobs import chosen_frames, plan_jobs
from replay.judge import disagreement, judge
from replay.locate.locating import locate_repeat
from replay.locate.recorded import locate_recorded, recorded_layers
from replay.locate.wording import name_layer
from replay.numerics.settings import WorkerPlan, plan_worker
from replay.opening import local_name
from replay.options import ReplayOptions
from replay.packed import PackedModels
from replay.pipeline.passes import run_pipeline, with_stages
from replay.pipeline.run import PipelineRunner
from replay.pipeline.stages import PipelineVerdict
from replay.process import Limits
from replay.reference import PortableReference, hold_against
from replay.result import result_path
from replay.session import Job, Outcome, Raised, Returned, Session
from replay.verdict import CallVerdict, FrameChange, FrameVerdict, Level, ReplayResult, WhatIf, worst
from replay.whatif import CallChanges, Judge, changed_plan

__all__ = ["replay_bundle"]

#: Inputs of the first pass kept for the later ones; beyond, they are read and decoded anew. Answers of the first pass
#: kept to say by how much a second one differs; beyond, digests tell only that it does.
_KEPT_BYTES = 64 * 2**20

#: Calls whose layers are looked through; the others most likely differ for the same reason.
_LOCATED_CALLS = 3


def replay_bundle(bundle: Bundle, options: ReplayOptions | None = None) -> ReplayResult:
    """Re-run a bundle's frames and say how exactly they reproduce.

    Calls are streamed: memory holds two calls, and inputs and answers of one pass up to a cap each, however long the
    bundle is.

    Args:
        bundle: open; it is only read.
        options: see ReplayOptions.

    Raises:
        ValueError: a wanted frame is not in the bundle, no comparator has the task's name, or the model locations
            cannot be used (ConfigInvalid).
        BundleInvalid: recorded bytes are not what the manifest says.
        BundleUnavailable: the bundle could not be read to the end.
    """
    with PackedModels(bundle) as packed:
        return _Replay(bundle, options or ReplayOptions(), packed).result()


class _Replay:
    def __init__(self, bundle: Bundle, options: ReplayOptions, packed: PackedModels) -> None:
        self._bundle = bundle
        self._manifest: Manifest = bundle.manifest
        self._options = options
        chosen = chosen_frames(self._manifest, options.frames)
        thinning = self._manifest.incident.thinning
        thinned = frozenset(thinning.frames) if thinning is not None else frozenset[int]()
        self._frames = [frame for frame in chosen if frame.id not in thinned]
        self._thinned = [frame.id for frame in chosen if frame.id in thinned]
        self._judge = (
            Judge(self._manifest, options.truth, names_for(bundle, options.truth)) if options.changes else None
        )
        self._changes: dict[int, FrameChange] = {}
        self._pipeline: dict[int, PipelineVerdict] = {}
        # With a pipeline, a change is made to the picture, and the recorded calls answer another question.
        self._jobs = [] if self._judge is not None and options.pipeline is not None else self._plan_jobs(packed)
        self._verdicts: dict[int, CallVerdict] = {}
        self._digests: dict[int, bytes | str] = {}
        self._kept: dict[int, Answer] = {}
        self._kept_bytes = 0
        self._comparator = None if options.task in (None, *TASKS) else RegisteredComparator(str(options.task))
        self._reference: PortableReference | None = None
        self._reference_note = ""
        self._done = 0
        self._interrupted = False
        self._trigger = self._manifest.incident.triggers[0] if self._manifest.incident.triggers else None
        self._failure: list[bool | None] = []

    def result(self) -> ReplayResult:
        options = self._options
        self._check_images()
        cpu = describe_cpu()
        plans = {
            context.id: changed_plan(plan_worker(context.environment, options.numerics, cpu), options.changes)
            for context in self._manifest.contexts
        }
        limits = Limits(timeout_seconds=options.timeout_seconds, memory_bytes=options.memory_bytes)
        # A later pass gives the model the same bytes again.
        read = kept(self._bundle.tensor_bytes, _KEPT_BYTES) if options.repeat > 1 else self._bundle.tensor_bytes
        with (
            Session(read, plans, device=options.device, limits=limits) as session,
            self._comparator or contextlib.nullcontext(),
        ):
            try:
                self._run_calls(session)
                if options.pipeline is not None:
                    self._run_pipeline(options.pipeline, plans, limits)
            except KeyboardInterrupt:  # what is known by now is worth telling
                self._interrupted = True
            if self._judge is None:  # a change on purpose is expected to differ
                self._verdicts = qualify(self._jobs, self._verdicts, session)
            remedies = remedies_for(self._verdicts.values())
            if options.numerics == "portable" and self._judge is None and session.environment is not None:
                self._hold_against_reference(session.environment)
        return self._sum_up(session, remedies)

    def _hold_against_reference(self, environment: Environment) -> None:
        """Compare portable bits with portable bits, where an earlier replay left some."""
        digests = {
            call: digest.hex()
            for call, digest in self._digests.items()
            if isinstance(digest, bytes) and self._verdicts[call].level is not Level.NONDETERMINISTIC
        }
        on_cpu = (self._options.device or "cpu") == "cpu"
        path = (
            result_path(local_name(str(self._options.bundle_path))) if self._options.bundle_path is not None else None
        )
        held = hold_against(path, self._bundle.id, environment if on_cpu else None, digests, self._verdicts)
        self._reference, self._reference_note = held.reference, held.note
        self._verdicts |= held.verdicts

    def _run_calls(self, session: Session) -> None:
        thresholds = _thresholds(self._manifest)
        changes = None if self._judge is None else CallChanges(self._judge, self._frames, self._bundle.tensor_bytes)
        for job, outcome in session.run(self._jobs):
            self._verdicts[job.call.id] = judge(
                job,
                outcome,
                self._bundle.tensor_bytes,
                thresholds,
                task=self._options.task if self._comparator is None else None,
                comparator=self._comparator,
            )
            self._remember(job, outcome)
            if changes is not None:
                self._changes |= changes.after(job, outcome, self._verdicts[job.call.id].level)
            self._progress()
        for _ in range(self._options.repeat - 1):
            session.forget_models()
            for job, outcome in session.run([job for job in self._jobs if job.call.id in self._digests]):
                if _digest(outcome) != self._digests[job.call.id]:
                    self._verdicts[job.call.id] = disagreement(job, self._kept.get(job.call.id), outcome)
                self._progress()
        self._find_layers(session)

    def _find_layers(self, session: Session) -> None:
        """Name the layer in which a replay first disagrees with itself, or with the layers captured in production."""
        left = _LOCATED_CALLS
        for job in self._jobs:
            verdict = self._verdicts[job.call.id]
            if verdict.first_difference is None or not left:
                continue
            if verdict.level is Level.NONDETERMINISTIC:
                located = locate_repeat(session, job)
            elif job.call.id in self._digests and (layers := recorded_layers(job.call, self._bundle.tensor_bytes)):
                session.forget_models()
                located = locate_recorded(session, job, layers)
            else:
                continue
            left -= 1
            named = name_layer(located, verdict.first_difference)
            self._verdicts[job.call.id] = replace(verdict, first_difference=named)

    def _run_pipeline(self, name: str, plans: dict[int, WorkerPlan], limits: Limits) -> None:
        options = self._options
        runner = PipelineRunner(
            self._bundle,
            plans,
            name,
            options.model_directory,
            device=options.device,
            limits=limits,
            edits=options.changes.edits,
        )
        with runner:
            self._pipeline, changes = run_pipeline(
                self._bundle,
                self._frames,
                runner,
                repeat=options.repeat,
                thresholds=_thresholds(self._manifest),
                judge=self._judge,
                progress=self._progress,
            )
        self._changes |= changes
        for found in self._pipeline.values():
            if found.failure_reproduced is not None:
                self._failure.append(found.failure_reproduced)

    def _check_images(self) -> None:
        """Refuse a bundle whose pictures are not those that were recorded: a verdict vouches for all it names."""
        for frame in self._frames:
            for image in frame.images:
                if image.pixels_sha256 is None:
                    self._bundle.read(image.member)
                    continue
                with contextlib.suppress(PixelsDiffer):  # an intact JPEG that this machine's decoder reads otherwise
                    self._bundle.pixels(image)

    def _plan_jobs(self, packed: PackedModels) -> list[Job]:
        options = self._options
        return plan_jobs(
            self._manifest,
            self._frames,
            model=options.model,
            model_directory=options.model_directory,
            models=options.models,
            bundle_path=options.bundle_path,
            config=options.config,
            weights=options.changes.weights,
            packed=packed,
        )

    def _remember(self, job: Job, outcome: Outcome) -> None:
        digest = _digest(outcome)
        if digest is None:
            return
        self._digests[job.call.id] = digest
        if isinstance(outcome, Returned) and self._options.repeat > 1:
            size_bytes = sum(len(data) for data in outcome.answer.tensors.values())
            if self._kept_bytes + size_bytes <= _KEPT_BYTES:
                self._kept[job.call.id] = outcome.answer
                self._kept_bytes += size_bytes
        frame = None if self._trigger is None else self._trigger.frame
        if frame is not None and _belongs(job.call, frame, self._frames):
            self._failure.append(failure_shows(self._trigger, job.call, outcome))

    def _progress(self) -> None:
        self._done += 1
        if self._options.progress is not None:
            self._options.progress(self._done, self._work)

    @property
    def _work(self) -> int:
        """Runs in all, of calls and of the pipeline, passes counted."""
        each = len(self._jobs) + (len(self._frames) if self._options.pipeline is not None else 0)
        return each * self._options.repeat

    def _sum_up(self, session: Session, remedies: tuple[str, ...]) -> ReplayResult:
        options = self._options
        replayed = [self._frame_verdict(frame) for frame in self._frames]
        frames = tuple(sorted([*replayed, *map(thinned_frame, self._thinned)], key=lambda frame: frame.id))
        verdict = worst([frame.level for frame in frames if frame.compared] or [frame.level for frame in frames])
        not_restored = list(dict.fromkeys(item for lacking in session.not_restored.values() for item in lacking))
        notes = list(dict.fromkeys(note for job in self._jobs for note in session.notes_of(job)))
        shows = frame_fails("" if self._trigger is None else self._trigger.kind, self._failure)
        within = shows is False and self._failed_within()
        if within:
            shows = None
        unchecked = [*notes, *(["preprocessing was not re-run: no --pipeline"] if options.pipeline is None else [])]
        if options.pipeline is None and self._raised_outside():
            unchecked.insert(0, "the exception was raised outside of the models and was not run")
        if within:
            unchecked.insert(0, "what the trigger fired on was given by a call within another one, which is not judged")
        if self._thinned:
            count = f"{len(self._thinned)} of {len(frames)} frames"
            unchecked.append(f"{count} were not replayed: thinned, to keep the bundle within its size")
        if self._reference_note:
            unchecked.insert(0, self._reference_note)
        if options.repeat == 1:
            unchecked.append("replay was not compared with itself: --repeat 1")
        if self._interrupted:
            unchecked.append(f"interrupted after {self._done} of {self._work} runs: this is what was known by then")
        if not self._manifest.complete:
            unchecked.append("the bundle was salvaged and is not complete")
        what_if = None
        if self._judge is not None:
            changed = tuple(self._changes[frame.id] for frame in self._frames if frame.id in self._changes)
            what_if = WhatIf(changes=options.changes.texts, judged_by=self._judge.judged_by, frames=changed)
        return ReplayResult(
            bundle=self._bundle.id,
            verdict=verdict,
            reproduced=reaches(verdict, options.require),
            failure_reproduced=shows,
            numerics=options.numerics,
            not_restored=(*not_restored, *notes),
            frames=frames,
            conclusion=conclude(frames, verdict, failure_reproduced=shows, unchecked=unchecked, what_if=what_if),
            interrupted=self._interrupted,
            thinned=len(self._thinned),
            exit_code=exit_code_of(verdict, options.require, self._manifest.complete, what_if),
            remedies=remedies,
            what_if=what_if,
            portable_reference=self._reference,
        )

    def _failed_within(self) -> bool:
        """Whether the trigger fired on what a nested call gave: such a call is not run by itself, so nobody saw it."""
        trigger = self._trigger
        if trigger is None or trigger.kind != "non_finite":
            return False
        frame = next((each for each in self._frames if each.id == trigger.frame), None)
        for call in self._manifest.calls:
            if frame is None or call.id not in frame.calls or call.parent is None or call.output is None:
                continue
            answer = recorded_answer(call.output, self._bundle.tensor_bytes)
            if failure_shows(trigger, call, Returned(answer=answer, seconds=0.0)):
                return True
        return False

    def _raised_outside(self) -> bool:
        """Whether the incident is an exception that no recorded call raised."""
        if self._trigger is None or self._trigger.kind != "exception":
            return False
        frame = next((each for each in self._frames if each.id == self._trigger.frame), None)
        calls = [call for call in self._manifest.calls if frame is not None and call.id in frame.calls]
        return frame is not None and not any(call.status == "raised" for call in calls)

    def _frame_verdict(self, frame: Frame) -> FrameVerdict:
        verdict = verdict_of_calls(frame, self._verdicts, interrupted=self._interrupted)
        return with_stages(verdict, self._pipeline[frame.id]) if frame.id in self._pipeline else verdict


def _digest(outcome: Outcome) -> bytes | str | None:
    """What two passes have to agree in; None for a call that could not be run."""
    match outcome:
        case Returned(answer=answer):
            return digest_of(answer)
        case Raised(type=kind):
            return kind
    return None


def _thresholds(manifest: Manifest) -> list[float]:
    """Confidences at which the service's own triggers act: a decision is the same on the same side of each."""
    found = [trigger.parameters.get("below") for trigger in manifest.incident.triggers]
    return [float(each) for each in found if isinstance(each, int | float) and not isinstance(each, bool)]


def _belongs(call: Call, frame_id: int, frames: Sequence[Frame]) -> bool:
    return any(frame.id == frame_id and call.id in frame.calls for frame in frames)
