"""The verdict ladder, and what one replay found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from recorder.bundle.values import JsonValue

if TYPE_CHECKING:
    from replay.reference import PortableReference
__all__ = [
    "CallVerdict",
    "Difference",
    "FrameChange",
    "FrameVerdict",
    "Layer",
    "Level",
    "OUTCOMES",
    "ReplayResult",
    "StageVerdict",
    "WhatIf",
    "worst",
]


#: What a change made of a frame's decision. The last three: nothing says what is right, or it could not be run.
OUTCOMES = ("fixed", "still wrong", "newly wrong", "still right", "changed", "unchanged", "unknown")


class Level(StrEnum):
    """How exactly a frame was reproduced, best first; `worst` follows this order."""

    BIT_EXACT = "bit-exact"
    WITHIN_TOLERANCE = "within-tolerance"
    SAME_DECISION = "same-decision"
    INCONCLUSIVE = "inconclusive"  #: another answer, but the recorded surroundings could not be restored
    NOT_REPLAYABLE = "not-replayable"  #: it could not run here
    NONDETERMINISTIC = "nondeterministic"  #: replay disagrees with itself
    DIVERGED = "diverged"


def worst(levels: list[Level]) -> Level:
    """Return the worst of some levels; `not-replayable` when there are none."""
    order = list(Level)
    return max(levels, key=order.index) if levels else Level.NOT_REPLAYABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The layer of a model in which a difference begins."""

    path: str  #: of the module; "" is the model itself
    kind: str  #: its class, or the operator
    call_index: int = 0  #: the how manieth call of it
    operator: str | None = None  #: inside it, where that is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where a replayed value first differs from the recorded one, and by how much."""

    stage: str  #: "model", "exception"; with a pipeline "decode", "preprocess", "postprocess" too
    where: str  #: such as "call 17 (detector) output[0]['boxes']"
    what: str  #: one sentence
    max_abs: float | None = None  #: largest absolute difference, where both are finite
    rel_l2: float | None = None  #: norm of the difference over the norm of the recorded tensor
    recorded: JsonValue = None  #: the recorded decision or scalar, shortened
    replayed: JsonValue = None
    margin_over_delta: float | None = None  #: distance to the decision boundary over max_abs; below 2 is a near-tie
    layer: Layer | None = None  #: where it begins, as far as that was looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class CallVerdict:
    """One outermost model call, re-run."""

    call: int
    model: str
    level: Level
    first_difference: Difference | None = None
    reason: str = ""  #: why it was not replayable or inconclusive, with the remedy
    compared: bool = True  #: false: nothing was recorded that a replay could be held against


@dataclass(frozen=True, slots=True, kw_only=True)
class StageVerdict:
    """One stage of the user's pipeline, re-run from the recorded image."""

    name: str  #: "decode", "preprocess", "model", "postprocess" or "exception"
    level: Level
    difference: Difference | None = None
    note: str = ""  #: what else is known, such as other weights
    compared: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameVerdict:
    """One frame: the worst of its calls that have something to compare with."""

    id: int
    level: Level
    first_difference: Difference | None = None
    calls: tuple[CallVerdict, ...] = ()
    reason: str = ""
    compared: bool = True  #: false for a frame in flight or without model calls; it does not count in the verdict
    stages: tuple[StageVerdict, ...] = ()  #: with a pipeline, in its order
    thinned: bool = False  #: its payload was left out of the bundle on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameChange:
    """What a change made of one frame's decision."""

    id: int
    outcome: str  #: one of OUTCOMES
    recorded: str  #: the decision in a few words, "" where it has none
    replayed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The incident with a candidate fix."""

    changes: tuple[str, ...]  #: what was changed, as it was typed
    judged_by: str  #: what says that an answer is wrong; "" when nothing does
    frames: tuple[FrameChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """What one replay of a bundle found: printed, written as JSON, read by report, ticket and suite."""

    bundle: str  #: bundle id
    verdict: Level
    reproduced: bool  #: whether the verdict reaches what `--require` asks
    failure_reproduced: bool | None  #: the trigger evaluated on the replayed values; null where it cannot be
    numerics: str  #: "faithful", "portable" or "here"
    not_restored: tuple[str, ...]  #: sentences: which recorded settings could not be restored
    frames: tuple[FrameVerdict, ...]
    conclusion: str  #: one sentence, with what was not checked
    exit_code: int
    remedies: tuple[str, ...] = field(default_factory=tuple)
    thinned: int = 0  #: frames that were not replayed because the bundle was kept within a size
    portable_reference: PortableReference | None = None  #: to keep with the result; portable numerics only
    interrupted: bool = False  #: the user ended it early: a partial verdict
    what_if: WhatIf | None = None  #: where something was changed on purpose
