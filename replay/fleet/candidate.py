"""What is tried on every incident, and what came of one. Both travel to other machines as plain data."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.bundle.errors import BundleError
from replay.opening import Opening, place_of
from replay.options import ReplayOptions
from replay.run import replay_bundle
from replay.show.text import inert
from replay.verdict import Level, ReplayResult
from replay.whatif import parse_changes

__all__ = ["NOT_JUDGED", "OUTCOMES", "Candidate", "replay_one"]

#: Of an incident, the worst first: what any of its frames says counts.
OUTCOMES = (
    "newly wrong",
    "still wrong",
    "diverged",
    "changed",
    "nondeterministic",
    "cannot run",
    "unreadable",
    "fixed",
    "unchanged",
    "still right",
    "reproduced",
)

#: Of a frame: its images and tensors were left out of the bundle, so nothing is known of it.
NOT_JUDGED = "not judged"

_CHUNK_BYTES = 2**20
_REASON_CHARS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """How every incident is replayed: the options of `replay run` that say with what."""

    model: tuple[str, ...] = ()
    model_directory: str | None = None
    models: str | None = None
    weights: str | None = None
    pipeline: str | None = None
    sets: tuple[str, ...] = ()
    truth: str = "ground_truth"
    repeat: int = 1  #: passes; more tell nondeterminism from a change
    timeout_seconds: float | None = None

    def options(self, location: str) -> ReplayOptions:
        """Return the options for one bundle.

        Raises:
            ValueError: one has no such value; one sentence.
        """
        changes = parse_changes(self.sets, self.weights)
        if self.pipeline is not None:
            named = f"pipeline={inert(self.pipeline, 200)}"
            changes = dataclasses.replace(changes, pipeline=True, texts=(named, *changes.texts))
        return ReplayOptions(
            model=self.model,
            model_directory=self.model_directory,
            models=self.models,
            bundle_path=place_of(location),
            changes=changes,
            pipeline=self.pipeline,
            truth=self.truth,
            repeat=self.repeat,
            timeout_seconds=self.timeout_seconds,
        )

    def key(self, opening: Opening) -> str:
        """Name the candidate by its options and the bytes of its weights: results of another are not taken for its own.

        Nor are those of a run that did not ask for the same signatures.

        Code behind ``model`` and ``pipeline`` is named only: after changing it, begin a new directory.

        Raises:
            OSError: the weights, or a file of keys, cannot be read.
        """
        plain = dataclasses.asdict(self)
        if self.weights is not None and self.weights != "own":
            digest = hashlib.sha256()
            with Path(self.weights).open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
            plain["weights"] = digest.hexdigest()
        if opening.requires_signature:
            plain["signed"] = [hashlib.sha256(Path(each).read_bytes()).hexdigest() for each in opening.keys]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def replay_one(location: str, candidate: Candidate, opening: Opening) -> dict[str, Any]:
    """Replay one bundle; whatever goes wrong is its outcome and nobody else's.

    Args:
        location: of the bundle.
        candidate: what is tried.
        opening: how bundles are opened: who may have sealed them, and what opens encrypted ones.

    Returns:
        JSON-able: "outcome" (of OUTCOMES), "reason", "seconds", and of a readable bundle "bundle", "trigger", "stream",
        "cause", "verdict", and "frames", how many there are of each outcome or level.
    """
    started = time.monotonic()
    told: dict[str, Any] = {"outcome": "unreadable", "reason": "", "frames": {}}
    try:
        with opening.open(location) as bundle:
            incident = bundle.manifest.incident
            told |= {
                "bundle": bundle.id,
                "trigger": inert(incident.triggers[0].kind, 80) if incident.triggers else "",
                "stream": inert(incident.stream, 200),
                "cause": inert(incident.cause.get("cause"), 80) if incident.cause else None,
                "outcome": "cannot run",
            }
            told |= _outcome(replay_bundle(bundle, candidate.options(location)))
    except (BundleError, ValueError, OSError) as error:
        told["reason"] = inert(error, _REASON_CHARS)
    except Exception as error:  # noqa: BLE001 - a fault of replay itself must not end the others
        told["reason"] = f"{type(error).__name__}: {inert(error, _REASON_CHARS)}"
    return told | {"seconds": round(time.monotonic() - started, 3)}


def _outcome(result: ReplayResult) -> dict[str, Any]:
    if result.what_if is not None:
        counts = Counter(frame.outcome for frame in result.what_if.frames)
        order = ("newly wrong", "still wrong", "changed", "fixed", "unchanged", "still right")
        found = next((name for name in order if counts[name]), "cannot run")
        if counts["unknown"] and found in ("fixed", "unchanged", "still right"):
            found = "cannot run"  # what was not seen may be what breaks
    else:
        counts = Counter(frame.level.value for frame in result.frames if not frame.thinned)
        by_verdict = {
            Level.DIVERGED: "diverged",
            Level.NONDETERMINISTIC: "nondeterministic",
            Level.INCONCLUSIVE: "cannot run",
            Level.NOT_REPLAYABLE: "cannot run",
        }
        found = by_verdict.get(result.verdict, "reproduced")
    if result.thinned:
        counts[NOT_JUDGED] = result.thinned
    reason = ""
    if found == "cannot run":
        told = (frame.reason for frame in result.frames if frame.reason)
        reason = inert(next(iter(result.remedies), next(told, result.conclusion)), _REASON_CHARS)
    return {"outcome": found, "verdict": result.verdict.value, "frames": dict(counts), "reason": reason}
