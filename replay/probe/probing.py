"""Run the probes on an incident: choose frames, say what it will cost, stop when the time is used up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame
from recorder.bundle.values import TensorValue
from recorder.environment import describe_cpu
from recorder.sinks.s3.address import S3Address
from replay.class_names import ClassNames, names_for
from replay.jobs import plan_jobs
from replay.load import UserConfig
from replay.numerics.settings import plan_worker
from replay.packed import PackedModels
from replay.pipeline.run import PipelineRunner
from replay.probe import baseline, skew, steadiness, where
from replay.probe.attribution import attributions
from replay.probe.calibration import calibration
from replay.probe.cases import NO_TIME, Region, cases_of, probed_frames, sureness_of
from replay.probe.confirming import confirm, confirming_runs, split, suspected
from replay.probe.costs import Counter, runs_of
from replay.probe.finding import Finding
from replay.probe.subject import CannotProbe, ModelSubject, PipelineSubject, Subject, model_frames
from replay.probe.tensor_image import Normalisation
from replay.probe.trial import Trial
from replay.process import Limits
from replay.session import Session

__all__ = ["PROBES", "ProbeOptions", "Probed", "probe_bundle"]

#: Share of the budget that choosing frames may take; the rest is for the probes.
_MOST_CHOOSING = 0.25

#: Names in the order they are run: what is cheap and says most comes first.
PROBES = (
    "calibration",
    "random-input",
    "object-hidden",
    "background",
    "channel-order",
    "normalisation",
    "batch",
    "input-consistency",
    *(each.name for each in steadiness.NUISANCES),
    "occlusion",
    "attribution",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How to probe. The defaults are those of the command line."""

    probes: tuple[str, ...] = PROBES
    frames: frozenset[int] | None = None  #: ids; None: the trigger's and some others
    budget_seconds: float = 300.0
    task: str | None = None  #: "classification", "detection" or "segmentation"; None: seen from the answers
    region: Region | None = None  #: where the object is; None: what was detected, else the middle
    normalisation: Normalisation | None = None  #: of the model's input; None: guessed
    truth: str = "ground_truth"  #: metadata key that holds the right answer
    labels: Mapping[str, int] | None = None  #: index of each class by its name; None: what the bundle tells
    model: tuple[str, ...] = ()
    model_directory: str | None = None
    models: str | None = None
    bundle_path: Path | S3Address | None = None
    config: UserConfig | None = None
    pipeline: str | None = None  #: "pkg.mod:predict": from the raw picture
    cause: bool = False  #: test the incident's cause by counterfactuals, instead of the probes
    suspect: str | None = None  #: another cause than the one the bundle names
    timeout_seconds: float | None = None
    progress: Callable[[int, int], None] | None = None  #: called with (runs done, runs in all)
    announce: Callable[[str], None] | None = None  #: called once with what it will cost


@dataclass(slots=True)
class Probed:
    """What came of it."""

    findings: list[Finding] = field(default_factory=list)
    frames: tuple[int, ...] = ()
    task: str = ""
    models: str = ""  #: names of those that were asked; "" of a pipeline
    frames_left_out: dict[str, int] = field(default_factory=dict)  #: how many, by reason
    left_out: tuple[str, ...] = ()  #: probes for which no time was left
    runs: int = 0
    seconds: float = 0.0


def probe_bundle(bundle: Bundle, options: ProbeOptions | None = None) -> Probed:
    """Probe an incident.

    Args:
        bundle: open; it is only read.
        options: see ProbeOptions.

    Raises:
        CannotProbe: there is no picture, no model or no decision to probe; one sentence with the remedy.
        ValueError: there is no such frame, or an option has another form.
        BundleInvalid, BundleUnavailable: the bundle is damaged or cannot be read.
    """
    options = options or ProbeOptions()
    with PackedModels(bundle) as packed, contextlib.ExitStack() as stack:
        frames = probed_frames(bundle.manifest, options.frames)
        counter = Counter(options.budget_seconds, options.progress, options.announce)
        plans = {
            context.id: plan_worker(context.environment, "faithful", describe_cpu())
            for context in bundle.manifest.contexts
        }
        limits = Limits(timeout_seconds=options.timeout_seconds)
        subject: Subject
        model_subject: ModelSubject | None = None
        if options.pipeline is not None:
            runner = stack.enter_context(
                PipelineRunner(bundle, plans, options.pipeline, options.model_directory, device=None, limits=limits)
            )
            subject = PipelineSubject(bundle, runner, task=options.task, asked=counter.count)
        else:
            jobs = plan_jobs(
                bundle.manifest,
                bundle.manifest.frames,
                model=options.model,
                model_directory=options.model_directory,
                models=options.models,
                bundle_path=options.bundle_path,
                config=options.config,
                packed=packed,
            )

            def session(read: Callable[[TensorValue], bytes]) -> Session:
                return Session(read, plans, device="cpu", limits=limits)

            model_subject = ModelSubject(
                bundle,
                model_frames(jobs, bundle.manifest.frames),
                session,
                task=options.task,
                normalisation=options.normalisation,
                asked=counter.count,
            )
            subject = stack.enter_context(model_subject)
        if options.cause or options.suspect is not None:
            return _confirm(bundle, subject, options, counter)
        return _probe(bundle, subject, model_subject, frames, options, counter)


def _confirm(bundle: Bundle, subject: Subject, options: ProbeOptions, counter: Counter) -> Probed:
    cause, evidence = suspected(bundle.manifest, options.suspect)
    frames = [frame for frame in subject.frames if options.frames is None or frame.id in options.frames]
    clean, bad = split(bundle.manifest, frames)
    wanted = len(clean) + len(bad)
    pixels = subject.pixels(bad[0])
    list(subject.ask(bad[0], [pixels, pixels]))  # the first run loads, and tells no time
    while len(clean) + len(bad) > 2 and not counter.affords(confirming_runs(cause, len(clean), len(bad))):
        clean, bad = (clean[1:], bad) if len(clean) >= len(bad) else (clean, bad[:-1])
    chosen = len(clean) + len(bad)
    counter.begin(confirming_runs(cause, len(clean), len(bad)), chosen, left_out=wanted - chosen)
    finding = confirm(
        subject, bundle.manifest, cause, evidence, clean, bad, truth=options.truth, names=_names(bundle, options)
    )
    told = finding.evidence["frames"]
    ids = {int(str(each["frame"])) for each in told if isinstance(each, dict)} if isinstance(told, list) else set()
    return Probed(
        findings=[finding], frames=tuple(sorted(ids)), task="cause", runs=counter.done, seconds=counter.seconds
    )


def _probe(
    bundle: Bundle,
    subject: Subject,
    model_subject: ModelSubject | None,
    frames: Sequence[Frame],
    options: ProbeOptions,
    counter: Counter,
) -> Probed:
    wanted = [frame.id for frame in frames]
    probed = [frame for frame in subject.frames if frame.id in wanted]
    if not probed:
        raise CannotProbe(
            "no frame holds a picture to probe: a model call on a tensor of 1, 3 or 4 channels, or a recorded image "
            "with --pipeline pkg.mod:predict"
        )
    probed.sort(key=lambda frame: wanted.index(frame.id))
    chosen = cases_of(subject, probed, options.region, lambda: counter.has_spent(_MOST_CHOOSING))
    cases = chosen.cases
    trial = Trial(subject, cases)
    costs = {name: runs_of(name, len(cases), of_a_model=model_subject is not None) for name in options.probes}
    counter.begin(sum(costs.values()), len(cases), chosen.left_out.get(NO_TIME, 0))
    done = Probed(
        frames=tuple(case.frame.id for case in cases), task=cases[0].reading.task, frames_left_out=chosen.left_out
    )
    if model_subject is not None:
        done.models = model_subject.models([case.frame for case in cases])
    left_out = []
    for name in options.probes:
        if costs[name] and not counter.affords(costs[name]):
            left_out.append(name)
            continue
        finding = _run(name, trial, model_subject, bundle, options)
        if finding is not None:
            done.findings.append(finding)
    done.left_out = tuple(left_out)
    done.runs, done.seconds = counter.done, counter.seconds
    return done


def _run(
    name: str, trial: Trial, subject: ModelSubject | None, bundle: Bundle, options: ProbeOptions
) -> Finding | None:
    match name:
        case "calibration":
            return calibration(list(sureness_of(trial.subject, options.truth, _names(bundle, options))))
        case "random-input":
            return baseline.random_inputs(trial)
        case "object-hidden":
            return where.object_hidden(trial)
        case "background":
            return where.background(trial)
        case "occlusion":
            return where.occlusion(trial)
        case "attribution":
            return attributions(trial, subject) if subject is not None else None
        case "channel-order":
            return skew.channel_order(trial)
        case "input-consistency":
            return steadiness.tiny_changes(trial)
        case "normalisation":
            return skew.normalisation(trial, subject) if subject is not None else None
        case "batch":
            return skew.batch(trial, subject) if subject is not None else None
    return steadiness.nuisance(trial, next(each for each in steadiness.NUISANCES if each.name == name))


def _names(bundle: Bundle, options: ProbeOptions) -> ClassNames:
    return names_for(bundle, options.truth) if options.labels is None else ClassNames(options.labels)
