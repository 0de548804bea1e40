"""Locate over the frames of a bundle: which calls are run on which sides, and what comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame, Manifest
from recorder.sinks.s3.address import S3Address
from replay.jobs import chosen_frames, plan_jobs
from replay.load import UserConfig
from replay.locate.form import located_form
from replay.locate.locating import Located, locate_call, locate_repeat
from replay.locate.recorded import locate_recorded, recorded_layers
from replay.locate.sides import check_against, sides
from replay.locate.wording import describe_root
from replay.numerics.settings import PROFILES
from replay.packed import PackedModels
from replay.process import Limits
from replay.session import Job, Session

__all__ = ["LocateOptions", "LocateResult", "locate_bundle"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocateOptions:
    """What to hold against what. The defaults are those of the command line."""

    against: tuple[str, ...] = ()  #: see replay.locate.sides.AGAINST
    against_model: str | None = None  #: "pkg.mod:factory" of the other side's model, typed by the user
    against_weights: Path | None = None  #: a safetensors file with the other side's weights
    library: tuple[str, str] | None = None  #: of the other side: ("torch==2.12.0", directory it was installed into)
    frames: frozenset[int] | None = None  #: ids; None: from the incident's frame on, until one differs
    numerics: str = "faithful"  #: of the reference
    device: str | None = None  #: of the reference
    model: tuple[str, ...] = ()  #: see replay.run.ReplayOptions
    model_directory: str | None = None
    models: str | None = None
    bundle_path: Path | S3Address | None = None
    config: UserConfig | None = None
    timeout_seconds: float | None = None
    memory_bytes: int | None = None
    progress: Progress | None = None  #: called with (calls done, calls in all)

    def __post_init__(self) -> None:
        """Check what can be checked without the bundle.

        Raises:
            ValueError: an option has no such value; the message is one sentence.
        """
        if self.numerics not in PROFILES:
            raise ValueError(f"--numerics is one of {', '.join(PROFILES)}, not {self.numerics!r}")
        if not (self.against or self.against_model or self.against_weights or self.library):
            raise ValueError(
                "name the other side: --against portable, --against itself, --against-model pkg.mod:factory, "
                "--with torch==X, …"
            )
        check_against(self.against)
        alone = {"itself", "recorded"} & set(self.against)
        if alone and (len(self.against) > 1 or self.against_model or self.against_weights or self.library):
            raise ValueError(f"--against {alone.pop()} goes with no other side")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocateResult:
    """What was found."""

    bundle: str  #: id
    names: tuple[str, str]  #: of the two sides
    located: tuple[Located, ...]  #: per call that was run
    not_restored: tuple[str, ...]  #: of the reference's settings

    @property
    def first(self) -> Located | None:
        """The first call that differs."""
        return next((each for each in self.located if each.differs), None)

    @property
    def exit_code(self) -> int:
        """0: the sides agree in every layer · 1: they differ · 3: no call could be run on both."""
        if self.first is not None:
            return 1
        return 0 if any(each.parting is not None for each in self.located) else 3

    @property
    def conclusion(self) -> str:
        """One sentence."""
        sides = f"{self.names[0]} against {self.names[1]}"
        if self.first is not None:
            return f"{sides}: {describe_root(self.first)}"
        compared = [each for each in self.located if each.parting is not None]
        if compared:
            return f"{sides}: every layer of {len(compared)} calls gives the same, bit for bit"
        reasons = [each.reason for each in self.located if each.reason]
        return f"{sides}: nothing could be compared: {reasons[0] if reasons else 'no model call was recorded'}"

    def form(self) -> dict[str, Any]:
        """Return the JSON object that `replay locate --json` prints."""
        return {
            "bundle": self.bundle,
            "reference": self.names[0],
            "other": self.names[1],
            "calls": [located_form(each, list(each.job.call.frames)) for each in self.located],
            "not_restored": list(self.not_restored),
            "conclusion": self.conclusion,
            "exit_code": self.exit_code,
        }


def locate_bundle(bundle: Bundle, options: LocateOptions) -> LocateResult:
    """Say where two replays of a bundle's frames part.

    Args:
        bundle: open; it is only read.
        options: see LocateOptions.

    Raises:
        ValueError: a wanted frame is not there, a model location, factory, weights file or setting cannot be used.
        BundleInvalid: recorded bytes are not what the manifest says.
        BundleUnavailable: the bundle could not be read to the end.
    """
    with PackedModels(bundle) as packed:
        return _locate(bundle, options, packed)


def _locate(bundle: Bundle, options: LocateOptions, packed: PackedModels) -> LocateResult:
    manifest = bundle.manifest
    frames = _in_order_of_interest(manifest, chosen_frames(manifest, options.frames))
    jobs = _jobs(manifest, frames, options, packed, options.model)
    other_jobs = _other_jobs(manifest, frames, options, packed, jobs)
    reference, other = sides(
        manifest, options.numerics, options.against, device=options.device, library=options.library
    )
    limits = Limits(timeout_seconds=options.timeout_seconds, memory_bytes=options.memory_bytes)
    names = (f"{reference.name}{_model_name(options.model)}", f"{other.name}{_other_name(options)}")
    found: list[Located] = []
    with contextlib.ExitStack() as stack:
        ours = theirs = stack.enter_context(
            Session(bundle.tensor_bytes, reference.plans, device=reference.device, limits=limits)
        )
        if (other.plans, other.device) != (reference.plans, reference.device):
            theirs = stack.enter_context(Session(bundle.tensor_bytes, other.plans, device=other.device, limits=limits))
        for done, (job, other_job) in enumerate(zip(jobs, other_jobs, strict=True), 1):
            if options.against == ("itself",):
                found.append(locate_repeat(ours, job))
            elif options.against == ("recorded",):
                found.append(_against_production(ours, job, bundle))
            else:
                found.append(locate_call(ours, job, theirs, other_job, names=names))
            if options.progress is not None:
                options.progress(done, len(jobs))
            if options.frames is None and found[-1].differs:
                break
        lacking = [sentence for sentences in ours.not_restored.values() for sentence in sentences]
    return LocateResult(bundle=bundle.id, names=names, located=tuple(found), not_restored=tuple(dict.fromkeys(lacking)))


def _against_production(session: Session, job: Job, bundle: Bundle) -> Located:
    recorded = recorded_layers(job.call, bundle.tensor_bytes)
    if recorded is None:
        return Located(job=job, reason="no layers were captured: attach the model with layers=True")
    return locate_recorded(session, job, recorded)


def _jobs(
    manifest: Manifest,
    frames: list[Frame],
    options: LocateOptions,
    packed: PackedModels,
    model: tuple[str, ...],
    weights: str | None = None,
) -> list[Job]:
    place = {call: number for number, frame in enumerate(frames) for call in frame.calls}
    jobs = plan_jobs(
        manifest,
        frames,
        model=model,
        model_directory=options.model_directory,
        models=options.models,
        weights=weights,
        bundle_path=options.bundle_path,
        config=options.config,
        packed=packed,
    )
    return sorted(jobs, key=lambda job: place[job.call.id])


def _other_jobs(
    manifest: Manifest, frames: list[Frame], options: LocateOptions, packed: PackedModels, jobs: list[Job]
) -> list[Job]:
    if options.against_model is None and options.against_weights is None:
        return jobs
    model = options.model if options.against_model is None else (options.against_model,)
    weights = "own" if options.against_weights is None else str(options.against_weights)
    return [replace(job, variant="other") for job in _jobs(manifest, frames, options, packed, model, weights)]


def _in_order_of_interest(manifest: Manifest, frames: list[Frame]) -> list[Frame]:
    """The frame of the incident's trigger first."""
    triggers = manifest.incident.triggers
    wanted = triggers[0].frame if triggers else None
    return sorted(frames, key=lambda frame: frame.id != wanted)


def _model_name(factories: tuple[str, ...]) -> str:
    return f" {', '.join(factories)}" if factories else ""


def _other_name(options: LocateOptions) -> str:
    own = (options.against_model,) if options.against_model else options.model
    weights = f" with {options.against_weights.name}" if options.against_weights else ""
    return f"{_model_name(own)}{weights}"
