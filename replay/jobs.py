"""Which recorded calls a replay runs again, and where each one's model can come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recorder.bundle.codec import signature_of
from recorder.bundle.manifest import Frame, Manifest
from recorder.sinks.s3.address import S3Address
from replay.load import UserConfig, find_locations, read_user_config
from replay.outcome import Job
from replay.packed import PackedModels
from replay.sources import Candidate, Factories, GraphShelf, candidates

__all__ = ["chosen_frames", "plan_jobs"]


def chosen_frames(manifest: Manifest, wanted: frozenset[int] | None) -> list[Frame]:
    """Return the frames with these ids, in order; all where none are named.

    Raises:
        ValueError: there is no frame of such an id.
    """
    if wanted is None:
        return list(manifest.frames)
    known = {frame.id for frame in manifest.frames}
    if missing := sorted(wanted - known):
        held = f"{min(known)} to {max(known)}" if known else "none"
        raise ValueError(f"the bundle has no frame {missing[0]}; it holds frames {held}")
    return [frame for frame in manifest.frames if frame.id in wanted]


def plan_jobs(
    manifest: Manifest,
    frames: Sequence[Frame],
    *,
    model: Sequence[str] = (),
    model_directory: str | None = None,
    models: str | None = None,
    weights: str | None = None,
    bundle_path: Path | S3Address | None = None,
    config: UserConfig | None = None,
    packed: PackedModels | None = None,
) -> list[Job]:
    """List the outermost calls of some frames, in order.

    Args:
        manifest: of the bundle.
        frames: of that manifest.
        weights: other weights than the recorded ones (`replay.whatif.Changes`).
        model, model_directory, models, bundle_path, config: see `replay.options.ReplayOptions`.
        packed: the models within the bundle; has to stay open while the jobs run.

    Raises:
        ValueError: a factory has another form, or the model locations cannot be used (ConfigInvalid).
    """
    wanted = {call for frame in frames for call in frame.calls}
    trusted = config if config is not None else read_user_config()
    shelf = GraphShelf(replace(find_locations(bundle_path, models, trusted), packed=packed))
    factories = Factories.parse(model, model_directory, weights)
    recorded = {each.id: each for each in manifest.models}
    contexts = {context.id: context for context in manifest.contexts}
    jobs = []
    known: dict[tuple[int, str], tuple[list[Candidate], list[str]]] = {}
    for call in manifest.calls:
        if call.id in wanted and call.parent is None:
            key = (call.model, signature_of(call))
            if key not in known:
                known[key] = candidates(recorded[call.model], call, factories, shelf, trusted)
            found, reasons = known[key]
            jobs.append(
                Job(
                    call=call,
                    model=recorded[call.model],
                    context=contexts[call.context],
                    candidates=found,
                    reasons=reasons,
                )
            )
    return jobs
