"""Replay a bundle: every outermost call of its frames run again, compared, and summed up in a verdict."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from recorder.bundle import Bundle, PixelsDiffer
from recorder.bundle.manifest import Call, Frame, Manifest
from recorder.environment import describe_cpu
from recorder.sinks.s3.address import S3Address
from replay.compare.comparison import Answer
from replay.conclusion import REQUIREMENTS, conclude, exit_code_of, reaches
from replay.exchange import digest_of, recorded_answer
from replay.failure import failure_shows
from replay.jobs import chosen_frames, plan_jobs
from replay.judge import disagreement, judge, soften
from replay.load import UserConfig, is_factory
from replay.numerics.settings import PROFILES, WorkerPlan, plan_worker
from replay.packed import PackedModels
from replay.pipeline.passes import run_pipeline, with_stages
from replay.pipeline.run import PipelineRunner
from replay.pipeline.stages import PipelineVerdict
from replay.process import Limits
from replay.session import Job, Outcome, Raised, Returned, Session
from replay.sources import REMEDY, Candidate
from replay.verdict import CallVerdict, FrameChange, FrameVerdict, Level, ReplayResult, WhatIf, worst
from replay.whatif import Changes, Judge, Side

__all__ = ["ReplayOptions", "replay_bundle"]

#: Answers of the first pass kept to say by how much a second one differs; beyond, digests tell only that it does.
_KEPT_BYTES = 64 * 2**20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How to replay. The defaults are those of the command line."""

    numerics: str = "faithful"  #: "faithful", "portable" or "here"
    device: str | None = None  #: "cpu", "cuda" or "cuda:n"; None: where it was recorded, as far as that is here
    frames: frozenset[int] | None = None  #: ids; None: all
    repeat: int = 2  #: passes; from the second on, replay is compared with itself
    model: tuple[str, ...] = ()  #: "pkg.mod:factory" or "name=pkg.mod:factory", typed by the user
    model_directory: str | None = None  #: where factories may be imported from besides the installed packages
    models: str | None = None  #: the model store, as typed by the user
    bundle_path: Path | S3Address | None = None  #: where the bundle lies, to find ``models/`` beside it
    config: UserConfig | None = None  #: None: read from the user's configuration directory
    timeout_seconds: float | None = None  #: for one call of a model
    memory_bytes: int | None = None  #: for a worker, beyond torch itself
    require: str = "decision"  #: "bit-exact", "tolerance" or "decision"
    pipeline: str | None = None  #: "pkg.mod:predict", typed by the user: from the raw image to the service's answer
    changes: Changes = field(default_factory=Changes)  #: what to change on purpose
    truth: str = "ground_truth"  #: metadata key that holds the right answer, for what a change fixes
    progress: Progress | None = None  #: called with (calls done, calls in all), passes counted

    def __post_init__(self) -> None:
        """Check what can be checked without the bundle.

        Raises:
            ValueError: an option has no such value; the message is one sentence.
        """
        if self.numerics not in PROFILES:
            raise ValueError(f"--numerics is one of {', '.join(PROFILES)}, not {self.numerics!r}")
        if self.require not in REQUIREMENTS:
            raise ValueError(f"--require is one of {', '.join(REQUIREMENTS)}, not {self.require!r}")
        if self.repeat < 1:
            raise ValueError(f"--repeat counts passes and is at least 1, not {self.repeat}")
        if self.timeout_seconds is not None and not self.timeout_seconds > 0:
            raise ValueError(f"--timeout is a positive number of seconds, not {self.timeout_seconds:g}")
        if self.pipeline is not None and not is_factory(self.pipeline):
            raise ValueError(f"--pipeline takes pkg.mod:predict, not {self.pipeline!r}")
        if self.changes.edits and self.pipeline is None:
            raise ValueError(
                "--set image.… changes the picture, and only a pipeline turns it into what the model gets: "
                "add --pipeline pkg.mod:predict"
            )
        if self.changes.weights and self.pipeline is not None:
            raise ValueError("--weights goes with the recorded model calls; a --pipeline loads its own weights")
        kind, _, index = (self.device or "cpu").partition(":")
        if kind not in ("cpu", "cuda") or (index and not (index.isdigit() and kind == "cuda")):
            raise ValueError(f"--device is cpu, cuda or cuda:n, not {self.device!r}")


def replay_bundle(bundle: Bundle, options: ReplayOptions | None = None) -> ReplayResult:
    """Re-run a bundle's frames and say how exactly they reproduce.

    Calls are streamed: memory holds two calls and the answers of one pass up to a cap, however long the bundle is.

    Args:
        bundle: open; it is only read.
        options: see ReplayOptions.

    Raises:
        ValueError: a wanted frame is not in the bundle, or the model locations cannot be used (ConfigInvalid).
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
        self._judge = Judge(self._manifest, options.truth) if options.changes else None
        self._changes: dict[int, FrameChange] = {}
        self._pipeline: dict[int, PipelineVerdict] = {}
        # With a pipeline, a change is made to the picture, and the recorded calls answer another question.
        self._jobs = [] if self._judge is not None and options.pipeline is not None else self._plan_jobs(packed)
        self._verdicts: dict[int, CallVerdict] = {}
        self._digests: dict[int, bytes | str] = {}
        self._kept: dict[int, Answer] = {}
        self._kept_bytes = 0
        self._done = 0
        self._interrupted = False
        self._trigger = self._manifest.incident.triggers[0] if self._manifest.incident.triggers else None
        self._failure: list[bool | None] = []

    def result(self) -> ReplayResult:
        options = self._options
        self._check_images()
        cpu = describe_cpu()
        plans = {
            context.id: _changed(plan_worker(context.environment, options.numerics, cpu), options.changes)
            for context in self._manifest.contexts
        }
        limits = Limits(timeout_seconds=options.timeout_seconds, memory_bytes=options.memory_bytes)
        with Session(self._bundle.tensor_bytes, plans, device=options.device, limits=limits) as session:
            try:
                self._run_calls(session)
                if options.pipeline is not None:
                    self._run_pipeline(options.pipeline, plans, limits)
            except KeyboardInterrupt:  # what is known by now is worth telling
                self._interrupted = True
            remedies = self._qualify(session)
        return self._sum_up(session, remedies)

    def _run_calls(self, session: Session) -> None:
        thresholds = _thresholds(self._manifest)
        for job, outcome in session.run(self._jobs):
            self._verdicts[job.call.id] = judge(job, outcome, self._bundle.tensor_bytes, thresholds)
            self._remember(job, outcome)
            self._judge_change(job, outcome)
            self._progress()
        for _ in range(self._options.repeat - 1):
            session.forget_models()
            for job, outcome in session.run([job for job in self._jobs if job.call.id in self._digests]):
                if _digest(outcome) != self._digests[job.call.id]:
                    self._verdicts[job.call.id] = disagreement(job, self._kept.get(job.call.id), outcome)
                self._progress()

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

    def _judge_change(self, job: Job, outcome: Outcome) -> None:
        """What a change made of the frames of a call; of a frame's calls the last one answers."""
        if self._judge is None or job.call.status == "open":
            return
        recorded, replayed = Answer(value=None, tensors={}), None
        if job.call.output is not None:
            recorded = recorded_answer(job.call.output, self._bundle.tensor_bytes)
        for frame in self._frames:
            if job.call.id not in frame.calls:
                continue
            row = job.call.frames.index(frame.id) if len(job.call.frames) > 1 and frame.id in job.call.frames else None
            if isinstance(outcome, Returned):
                replayed = Side(answer=outcome.answer, row=row)
            elif isinstance(outcome, Raised) and outcome.cannot is None:
                replayed = Side(raised=outcome.type)
            then = Side(answer=recorded, row=row, raised=job.call.exception.type if job.call.exception else None)
            level = self._verdicts[job.call.id].level
            self._changes[frame.id] = self._judge.change(frame, then, replayed, level)

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

    def _qualify(self, session: Session) -> list[str]:
        """Take back what a difference cannot prove; return remedies. A change on purpose is expected to differ."""
        remedies: list[str] = []
        proven = set()
        judged = [job for job in self._jobs if job.call.id in self._verdicts]
        for job in judged:
            source, verdict = session.source_of(job), self._verdicts[job.call.id]
            if source is not None and job.call.status == "returned" and reaches(verdict.level, "tolerance"):
                proven.add(source.graph_digest)
        for job in judged:
            source, verdict = session.source_of(job), self._verdicts[job.call.id]
            reason = _doubt(job, verdict, source, proven, [*session.lacking(job), *session.notes_of(job)])
            if reason and self._judge is None:
                self._verdicts[job.call.id] = soften(verdict, reason)
        if any(REMEDY in verdict.reason for verdict in self._verdicts.values()):
            remedies.append(REMEDY)
        if any("--models LOCATION" in verdict.reason for verdict in self._verdicts.values()):
            remedies.append("name the model store: --models LOCATION")
        return list(dict.fromkeys(remedies))

    def _sum_up(self, session: Session, remedies: list[str]) -> ReplayResult:
        options = self._options
        replayed = [self._frame_verdict(frame) for frame in self._frames]
        frames = tuple(sorted([*replayed, *map(_thinned, self._thinned)], key=lambda frame: frame.id))
        verdict = worst([frame.level for frame in frames if frame.compared] or [frame.level for frame in frames])
        not_restored = list(dict.fromkeys(item for lacking in session.not_restored.values() for item in lacking))
        notes = list(dict.fromkeys(note for job in self._jobs for note in session.notes_of(job)))
        shows = None
        if any(shown is not None for shown in self._failure):
            shows = any(self._failure)
        unchecked = [*notes, *(["preprocessing was not re-run: no --pipeline"] if options.pipeline is None else [])]
        if self._thinned:
            count = f"{len(self._thinned)} of {len(frames)} frames"
            unchecked.append(f"{count} were not replayed: thinned, to keep the bundle within its size")
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
            remedies=tuple(remedies),
            what_if=what_if,
        )

    def _frame_verdict(self, frame: Frame) -> FrameVerdict:
        verdict = self._verdict_of_calls(frame)
        return with_stages(verdict, self._pipeline[frame.id]) if frame.id in self._pipeline else verdict

    def _verdict_of_calls(self, frame: Frame) -> FrameVerdict:
        calls = tuple(self._verdicts[call] for call in frame.calls if call in self._verdicts)
        if not calls:
            reason = "no model call was recorded in it"
            if self._interrupted:
                reason = "replay was interrupted before it"
            elif frame.status == "open":
                reason = "it was in flight when the process died, before any model call"
            return FrameVerdict(id=frame.id, level=Level.NOT_REPLAYABLE, reason=reason, compared=False)
        counting = [call for call in calls if call.compared] or list(calls)
        level = worst([call.level for call in counting])
        deciding = next(call for call in counting if call.level is level)
        return FrameVerdict(
            id=frame.id,
            level=level,
            first_difference=deciding.first_difference,
            calls=calls,
            reason=deciding.reason or next((call.reason for call in calls if not call.compared), ""),
            compared=deciding.compared,
        )


def _changed(plan: WorkerPlan, changes: Changes) -> WorkerPlan:
    """A plan with the settings the user wants otherwise. A number of threads has to be known before torch is."""
    if not changes.settings:
        return plan
    variables = dict(plan.variables)
    if "torch.num_threads" in changes.settings and plan.profile != "here":
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(changes.settings["torch.num_threads"]))
    return replace(plan, variables=variables, settings={**plan.settings, **changes.settings})


def _thinned(frame: int) -> FrameVerdict:
    reason = "thinned: its images and inputs were left out to keep the bundle within its size"
    return FrameVerdict(id=frame, level=Level.NOT_REPLAYABLE, reason=reason, compared=False, thinned=True)


def _doubt(
    job: Job, verdict: CallVerdict, source: Candidate | None, proven: set[str | None], lacking: list[str]
) -> str | None:
    """Why a difference does not prove that the model answers differently; None where it does."""
    if source is not None and source.origin == "graph":
        if job.call.status == "raised" and verdict.level is Level.DIVERGED:
            return f"a stored graph holds none of the model's own checks, which may have raised; {REMEDY}"
        if source.graph_digest not in proven and verdict.level in (Level.SAME_DECISION, Level.DIVERGED):
            return f"the stored graph has reproduced no recorded call, so it may not be the model; {REMEDY}"
    if verdict.level is Level.DIVERGED and lacking:
        return f"the answer differs, and not everything is as it was recorded: {lacking[0]}"
    return None


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
