"""What a suite is run against, as the user says it."""

from __future__ import annotations

from collections.abc import Sequence

from replay.options import ReplayOptions
from replay.whatif import parse_changes

__all__ = ["candidate_options"]


def candidate_options(
    *,
    model: Sequence[str] = (),
    model_directory: str | None = None,
    weights: str | None = None,
    pipeline: str | None = None,
    models: str | None = None,
    device: str | None = None,
    timeout_seconds: float | None = None,
    repeat: int = 2,
) -> ReplayOptions:
    """Return how to run a candidate.

    A model that the user's code builds is the candidate with the weights it comes with, unless ``weights`` names a
    file, or "recorded" asks for those of the incident. None of model, weights, pipeline: the recorded model.

    Raises:
        ValueError: the choices do not go together; one sentence.
    """
    if pipeline is not None and (model or weights):
        raise ValueError("--pipeline builds its own model: give either it, or --model and --weights")
    chosen = None if weights == "recorded" else weights or ("own" if model else None)
    return ReplayOptions(
        model=tuple(model),
        model_directory=model_directory,
        models=models,
        device=device,
        timeout_seconds=timeout_seconds,
        pipeline=pipeline,
        repeat=repeat,
        changes=parse_changes((), chosen),
    )
