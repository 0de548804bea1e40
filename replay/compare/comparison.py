"""Compare a recorded answer with a replayed one: a level of the verdict ladder and the evidence for it.

Pure: values and bytes in, a `Comparison` out. The ladder, per tensor:

* **bit-exact**: same dtype, shape, strides and bytes. Bytes decide, so a NaN with another payload or a zero with
  another sign is *not* bit-exact (it is within tolerance). Strides of axes with fewer than two elements are ignored:
  they address nothing. Recorded Python floats carry no NaN payload: there NaN equals NaN.
* **within-tolerance**: same dtype and shape, the same places hold NaN, +Inf and -Inf, and over the finite rest
  ``|a-b| <= t |a|`` in the L2 norm and ``max|a-b| <= 10 t max|a|``, with t by the precision the model computed in.
  Integers, bools and strings have to be equal.
* **same-decision**: what the model is used for comes out the same (replay.compare.decision).
* **diverged**: everything else, and every difference in structure or shape.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from recorder.bundle.values import (
    MappingValue,
    OpaqueValue,
    RecordValue,
    RemovedValue,
    ScalarValue,
    SequenceValue,
    TensorValue,
    Value,
)
from replay.compare.tolerance import TOLERANCES, measure, tolerance_of
from replay.verdict import Difference, Level, worst

if TYPE_CHECKING:
    from replay.compare.decision import Decision

__all__ = ["Answer", "Comparison", "compare_answers"]

Key = TypeVar("Key", str, str | int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model answered: the structure, and for each of its tensors the bytes in memory order."""

    value: Value | None
    tensors: Mapping[str, bytes]  #: by the paths that `recorder.bundle.values.tensors_of` yields


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How close two answers are."""

    level: Level
    first_difference: Difference | None = None  #: the first place that fails the next better level
    compared: int = 0  #: tensors and scalars that were compared
    differing: int = 0  #: how many of them are not bit-exact
    task: str | None = None  #: the comparator that decided between same-decision and diverged
    unchecked: tuple[str, ...] = ()  #: places holding objects that could not be recorded


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One compared place. ``path`` is as `tensors_of` has it."""

    path: str
    level: Level
    difference: Difference | None = None
    structural: bool = False  #: no comparator can call this the same decision


@dataclass(slots=True)
class _Walk:
    recorded: Answer
    replayed: Answer
    compute_dtype: str | None
    leaves: list[_Leaf] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def compare_answers(
    recorded: Answer,
    replayed: Answer,
    *,
    autocast_dtype: str | None = None,
    task: str | None = None,
    thresholds: Sequence[float] = (),
    where: str = "output",
    comparator: Callable[[Answer, Answer, Sequence[float]], Decision] | None = None,
) -> Comparison:
    """Place a replayed answer on the verdict ladder.

    Args:
        recorded: the answer in the bundle.
        replayed: the answer of the re-run.
        autocast_dtype: the lower precision the model computed in, when it was not that of its output: "bfloat16",
            "float16" or "tf32" (a "torch." prefix is accepted).
        task: one of `replay.compare.decision.TASKS`; None chooses from the structure.
        thresholds: confidences at which the service acts; a decision is the same only on the same side of each.
        where: prefix of the places named, such as "call 3 (detector) output".
        comparator: decides in place of the task's, also where structure or shapes differ.

    Raises:
        KeyError: a tensor of a value has no bytes in ``tensors``.
        ValueError: a tensor's bytes do not fit its dtype and shape, or the task is unknown.
    """
    walk = _Walk(recorded, replayed, autocast_dtype.removeprefix("torch.") if autocast_dtype else None)
    _compare_values(walk, recorded.value, replayed.value, "")
    level = worst([leaf.level for leaf in walk.leaves]) if walk.leaves else Level.BIT_EXACT
    decided: str | None = None
    first = next((leaf for leaf in walk.leaves if leaf.level is level), None)
    difference = None if level is Level.BIT_EXACT or first is None else first.difference
    decision = _decision(walk, level, task, thresholds, comparator)
    if decision is not None:
        decided = decision.task
        if level is Level.DIVERGED and decision.same:
            level = Level.SAME_DECISION
        at = next((leaf.difference for leaf in walk.leaves if leaf.path == decision.path), difference)
        difference = at and replace(
            at,
            what=f"{at.what}; {decision.what}",
            recorded=decision.recorded,
            replayed=decision.replayed,
            margin_over_delta=decision.margin_over_delta,
        )
    if walk.unchecked and not walk.leaves:
        level = Level.INCONCLUSIVE
        difference = Difference(
            stage="model",
            where=walk.unchecked[0],
            what="the answer is an object that could not be recorded, so there is nothing to compare",
        )
    return Comparison(
        level=level,
        first_difference=difference and replace(difference, where=where + difference.where),
        compared=len(walk.leaves),
        differing=sum(leaf.level is not Level.BIT_EXACT for leaf in walk.leaves),
        task=decided,
        unchecked=tuple(where + path for path in walk.unchecked),
    )


def _decision(
    walk: _Walk,
    level: Level,
    task: str | None,
    thresholds: Sequence[float],
    comparator: Callable[[Answer, Answer, Sequence[float]], Decision] | None,
) -> Decision | None:
    """Whether both answers decide alike. Within tolerance it is evidence only: a near-tie may fall the other way."""
    if level is Level.DIVERGED and comparator is not None:
        return comparator(walk.recorded, walk.replayed, thresholds)
    if level not in (Level.DIVERGED, Level.WITHIN_TOLERANCE) or any(leaf.structural for leaf in walk.leaves):
        return None
    paths = [leaf.path for leaf in walk.leaves if leaf.level is level]
    from replay.compare.decision import decide

    return decide(walk.recorded, walk.replayed, paths, task=task, thresholds=thresholds)


def _compare_values(walk: _Walk, recorded: Value | None, replayed: Value | None, path: str) -> None:
    match recorded, replayed:
        case TensorValue(), TensorValue():
            walk.leaves.append(_compare_tensors(walk, recorded, replayed, path))
        case SequenceValue(), SequenceValue() if recorded.form == replayed.form:
            if len(recorded.items) != len(replayed.items):
                _structural(walk, path, f"{len(recorded.items)} items were recorded, {len(replayed.items)} came back")
            for index, (a, b) in enumerate(zip(recorded.items, replayed.items, strict=False)):
                _compare_values(walk, a, b, f"{path}[{index}]")
        case MappingValue(), MappingValue():
            _compare_named(walk, dict(recorded.items), dict(replayed.items), path, lambda key: f"[{key!r}]")
        case RecordValue(), RecordValue():
            _compare_named(walk, dict(recorded.fields), dict(replayed.fields), path, lambda key: f".{key}")
        case ScalarValue(), ScalarValue():
            walk.leaves.append(_compare_scalars(walk, recorded, replayed, path))
        case (OpaqueValue(), OpaqueValue()) | (RemovedValue(), _):
            walk.unchecked.append(path)
        case None, None:
            pass
        case _:
            _structural(walk, path, f"{_kind(recorded)} was recorded, {_kind(replayed)} came back")


def _compare_named(
    walk: _Walk, recorded: dict[Key, Value], replayed: dict[Key, Value], path: str, step: Callable[[Key], str]
) -> None:
    for key, value in recorded.items():
        if key in replayed:
            _compare_values(walk, value, replayed[key], path + step(key))
        else:
            _structural(walk, path + step(key), "was recorded and did not come back")
    for key in replayed:
        if key not in recorded:
            _structural(walk, path + step(key), "came back and was not recorded")


def _structural(walk: _Walk, path: str, what: str) -> None:
    difference = Difference(stage="model", where=path, what=what)
    walk.leaves.append(_Leaf(path, Level.DIVERGED, difference, structural=True))


def _kind(value: Value | None) -> str:
    match value:
        case None:
            return "nothing"
        case TensorValue():
            return "a tensor"
        case SequenceValue(form=form):
            return f"a {form}"
        case MappingValue():
            return "a dictionary"
        case RecordValue(form=form):
            return f"a {form}"
        case ScalarValue(value=plain):
            return "None" if plain is None else f"a Python {type(plain).__name__}"
        case OpaqueValue():
            return "an object that could not be recorded"
        case RemovedValue():
            return "something that was removed for privacy"


def _compare_scalars(walk: _Walk, recorded: ScalarValue, replayed: ScalarValue, path: str) -> _Leaf:
    a, b = recorded.value, replayed.value
    if type(a) is not type(b):
        return _Leaf(
            path,
            Level.DIVERGED,
            Difference(stage="model", where=path, what=f"{_kind(recorded)} was recorded, {_kind(replayed)} came back"),
            structural=True,
        )
    if isinstance(a, float) and isinstance(b, float):
        same = (math.isnan(a) and math.isnan(b)) or struct.pack("<d", a) == struct.pack("<d", b)
        # A float usually comes from a tensor's .item(): nothing says of which precision, float32 is the common one.
        tolerance = tolerance_of("float32", walk.compute_dtype)
        close = a == b or (math.isfinite(a) and math.isfinite(b) and abs(a - b) <= tolerance * abs(a))
    else:
        same = close = a == b
    if same:
        return _Leaf(path, Level.BIT_EXACT)
    gap = abs(a - b) if isinstance(a, float) and isinstance(b, float) else math.inf
    difference = Difference(
        stage="model",
        where=path,
        what="another value",
        max_abs=gap if math.isfinite(gap) else None,
        recorded=_short(a),
        replayed=_short(b),
    )
    return _Leaf(path, Level.WITHIN_TOLERANCE if close else Level.DIVERGED, difference)


def _short(value: bool | int | float | str | None) -> bool | int | float | str | None:
    if isinstance(value, str) and len(value) > 80:
        return value[:79] + "…"
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _compare_tensors(walk: _Walk, recorded: TensorValue, replayed: TensorValue, path: str) -> _Leaf:
    a, b = walk.recorded.tensors[path], walk.replayed.tensors[path]
    if recorded.shape != replayed.shape:
        what = f"shape {list(recorded.shape)} was recorded, {list(replayed.shape)} came back"
        return _Leaf(path, Level.DIVERGED, Difference(stage="model", where=path, what=what), structural=True)
    same_strides = _meaningful_strides(recorded) == _meaningful_strides(replayed)
    if recorded.dtype == replayed.dtype and same_strides and a == b:
        return _Leaf(path, Level.BIT_EXACT)
    if recorded.dtype != replayed.dtype:
        floating = recorded.dtype in TOLERANCES and replayed.dtype in TOLERANCES
        what = f"{recorded.dtype} was recorded, {replayed.dtype} came back"
        difference = Difference(stage="model", where=path, what=what)
        return _Leaf(path, Level.DIVERGED, difference, structural=not floating)
    return _measured(walk, recorded, replayed, path)


def _meaningful_strides(tensor: TensorValue) -> tuple[int, ...]:
    if 0 in tensor.shape:
        return ()
    return tuple(stride for size, stride in zip(tensor.shape, tensor.strides, strict=True) if size > 1)


def _measured(walk: _Walk, recorded: TensorValue, replayed: TensorValue, path: str) -> _Leaf:
    """Compare two tensors of one dtype and shape whose bytes or strides differ."""
    gap = measure(recorded, walk.recorded.tensors[path], replayed, walk.replayed.tensors[path])
    if gap.differing:
        what = f"{gap.differing} of {math.prod(recorded.shape)} elements differ"
        if not gap.masks_agree:
            what += ", NaN or infinite values stand in other places"
    else:
        strides = f"{list(recorded.strides)} were recorded, {list(replayed.strides)} came back"
        what = f"equal values, other strides: {strides}"
    within = gap.within(tolerance_of(recorded.dtype, walk.compute_dtype) if gap.floating else 0.0)
    difference = Difference(
        stage="model",
        where=path,
        what=what,
        max_abs=gap.max_abs if gap.floating and math.isfinite(gap.max_abs) else None,
        rel_l2=gap.rel_l2 if gap.floating and math.isfinite(gap.rel_l2) else None,
    )
    return _Leaf(path, Level.WITHIN_TOLERANCE if within else Level.DIVERGED, difference)
