"""Run the probes on an incident: choose frames, say what it will cost, stop when the time is used up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame, Manifest
from recorder.bundle.values import TensorValue
from recorder.environment import describe_cpu
from recorder.sinks.s3.address import S3Address
from replay.compare.layout import Array
from replay.compare.reading import Reading, same
from replay.jobs import chosen_frames, plan_jobs
from replay.load import UserConfig
from replay.numerics.settings import plan_worker
from replay.packed import PackedModels
from replay.pipeline.run import PipelineRunner
from replay.probe import baseline, skew, steadiness, where
from replay.probe.attribution import ATTRIBUTION, attributions
from replay.probe.calibration import Sure, calibration
from replay.probe.confirming import CONFIRMING, confirm, suspected
from replay.probe.finding import Finding
from replay.probe.subject import CannotProbe, ModelSubject, PipelineSubject, Subject, model_frames
from replay.probe.tensor_image import Normalisation
from replay.probe.trial import Case, Trial
from replay.process import Limits
from replay.session import Session

__all__ = ["PROBES", "ProbeOptions", "Probed", "probe_bundle"]

#: Frames probed unless the user names others: the trigger's and some spread evenly over the rest.
_MOST_FRAMES = 8

#: The object, where nothing says where it is: this share of either side, in the middle.
_MIDDLE = 0.6

#: Boxes or a mask that cover more than this tell nothing of where the object is.
_MOST_COVERED = 0.9

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
    region: tuple[float, float, float, float] | None = None  #: the object: left, top, right, bottom, 0 to 1
    normalisation: Normalisation | None = None  #: of the model's input; None: guessed
    truth: str = "ground_truth"  #: metadata key that holds the right answer
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
        frames = _probed_frames(bundle.manifest, options.frames)
        counter = _Counter(options)
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


def _confirm(bundle: Bundle, subject: Subject, options: ProbeOptions, counter: _Counter) -> Probed:
    cause, evidence = suspected(bundle.manifest, options.suspect)
    counter.begin(CONFIRMING * len(subject.frames), len(subject.frames))
    finding = confirm(subject, bundle.manifest, cause, evidence, truth=options.truth)
    told = finding.evidence["frames"]
    frames = {int(str(each["frame"])) for each in told if isinstance(each, dict)} if isinstance(told, list) else set()
    return Probed(
        findings=[finding], frames=tuple(sorted(frames)), task="cause", runs=counter.done, seconds=counter.seconds
    )


def _probe(
    bundle: Bundle,
    subject: Subject,
    model_subject: ModelSubject | None,
    frames: Sequence[Frame],
    options: ProbeOptions,
    counter: _Counter,
) -> Probed:
    wanted = {frame.id for frame in frames}
    probed = [frame for frame in subject.frames if frame.id in wanted]
    if not probed:
        raise CannotProbe(
            "no frame holds a picture to probe: a model call on a tensor of 1, 3 or 4 channels, or a recorded image "
            "with --pipeline pkg.mod:predict"
        )
    cases = list(_cases(subject, probed, options))
    trial = Trial(subject, cases)
    costs = {name: _runs(name, model_subject is not None) * len(cases) for name in options.probes}
    counter.begin(sum(costs.values()), len(cases))
    done = Probed(frames=tuple(case.frame.id for case in cases), task=cases[0].reading.task)
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
            return calibration(list(_sureness(trial.subject, options.truth)))
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


def _runs(name: str, of_a_model: bool) -> int:
    """Runs per frame."""
    fixed = {
        "calibration": 0,
        "random-input": baseline.RANDOM_INPUTS,
        "object-hidden": where.HIDING,
        "background": where.HIDING,
        "occlusion": where.OCCLUSION,
        "channel-order": skew.CHANNELS,
        "input-consistency": steadiness.TINY_CHANGES,
        "normalisation": skew.NORMALISATION if of_a_model else 0,
        "batch": skew.BATCH if of_a_model else 0,
        "attribution": ATTRIBUTION if of_a_model else 0,
    }
    if name in fixed:
        return fixed[name]
    return len(next(each for each in steadiness.NUISANCES if each.name == name).amounts)


class _Counter:
    """Counts runs and time, and says what is affordable."""

    def __init__(self, options: ProbeOptions) -> None:
        self._options = options
        self._started = self._last = time.monotonic()
        self._each_seconds: list[float] = []
        self._all = 0
        self.done = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def of_one_seconds(self) -> float:
        """The usual time of a run; the first one loaded the model."""
        return float(np.median(self._each_seconds[-50:])) if self._each_seconds else 0.0

    def count(self) -> None:
        now = time.monotonic()
        self._each_seconds.append(now - self._last)
        self._last = now
        self.done += 1
        if self._options.progress is not None and self._all:
            self._options.progress(min(self.done, self._all), self._all)

    def begin(self, runs: int, cases: int) -> None:
        """Say what is to come. Runs so far were of unchanged frames."""
        self._all = self.done + runs
        if self._options.announce is not None:
            self._options.announce(
                f"{runs} runs on {cases} frames, about {runs * self.of_one_seconds:.0f} s; "
                f"budget {self._options.budget_seconds:g} s"
            )

    def affords(self, runs: int) -> bool:
        return self.seconds + runs * self.of_one_seconds <= self._options.budget_seconds


def _probed_frames(manifest: Manifest, wanted: frozenset[int] | None) -> list[Frame]:
    """Those the user named, else the trigger's and some others spread evenly."""
    frames = chosen_frames(manifest, wanted)
    if wanted is not None or len(frames) <= _MOST_FRAMES:
        return frames
    triggers = {trigger.frame for trigger in manifest.incident.triggers}
    first = [frame for frame in frames if frame.id in triggers][:2]
    rest = [frame for frame in frames if frame not in first]
    places = np.linspace(0, len(rest) - 1, _MOST_FRAMES - len(first)).round().astype(int)
    return sorted([*first, *(rest[place] for place in places)], key=lambda frame: frame.id)


def _cases(subject: Subject, frames: Sequence[Frame], options: ProbeOptions) -> Iterator[Case]:
    """Frames whose unchanged pixels give the recorded decision."""
    other, undecided = 0, 0
    found = 0
    for frame in frames:
        pixels = subject.pixels(frame)
        reading = list(subject.ask(frame, [pixels, pixels]))[-1]  # twice: the first run loads, and tells no time
        recorded = subject.recorded(frame)
        if reading is None:
            undecided += 1
            continue
        if recorded is not None and not same(recorded, reading):
            other += 1
            continue
        region, source = _region(pixels, reading, frame, options)
        found += 1
        yield Case(frame=frame, pixels=pixels, reading=reading, region=region, region_from=source)
    if found:
        return
    if undecided:
        raise CannotProbe("no answer is a class, boxes or a mask; say what it is with --task")
    raise CannotProbe(
        f"the recorded decision does not come back here on any of {other} frames: `replay run` says why; "
        "where the input is no ordinary picture, state --mean and --std"
    )


def _region(pixels: Array, reading: Reading, frame: Frame, options: ProbeOptions) -> tuple[Array, str]:
    """Where the object is, (H, W), and who says so."""
    height, width = pixels.shape[:2]
    region = np.zeros((height, width), bool)
    if options.region is not None:
        left, top, right, bottom = options.region
        region[_span(top, bottom, height), _span(left, right, width)] = True
        return region, "the region given"
    if reading.boxes is not None and len(reading.boxes):
        corners = reading.boxes.corners
        scale = np.asarray([width, height] * 2) if float(np.abs(corners).max()) <= 1.5 else np.ones(4)
        for left, top, right, bottom in (corners * scale).tolist():
            region[_span(top / height, bottom / height, height), _span(left / width, right / width, width)] = True
        if 0 < region.mean() < _MOST_COVERED:
            return region, "the boxes that were found"
    if reading.mask is not None and reading.mask.shape == (height, width):
        classes, counts = np.unique(reading.mask, return_counts=True)
        region = np.asarray(reading.mask != classes[int(counts.argmax())])
        if 0 < region.mean() < _MOST_COVERED:
            return region, "the mask, its largest class left out"
    region[...] = False
    edge = (1 - _MIDDLE) / 2
    region[_span(edge, 1 - edge, height), _span(edge, 1 - edge, width)] = True
    return region, "taken to be in the middle"


def _span(low: float, high: float, size: int) -> slice:
    start = int(np.clip(round(low * size), 0, size - 1))
    return slice(start, int(np.clip(round(high * size), start + 1, size)))


def _sureness(subject: Subject, truth: str) -> Iterator[Sure]:
    """The recorded confidence of every frame, those that are not probed too."""
    for frame in subject.frames:
        reading = subject.recorded(frame)
        if reading is None or reading.confidence is None:
            continue
        known, right = frame.metadata.get(truth), None
        if reading.winner is not None and isinstance(known, int | str) and not isinstance(known, bool):
            right = str(known) == str(reading.winner)
        yield Sure(reading.confidence, right)
