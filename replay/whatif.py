"""What if: the incident with a candidate fix, and which frames' decisions it changes.

A frame's answer is *wrong* where the truth is known (a metadata key) and the answer says something else, or, without
one, where the trigger that opened the incident fires on it. Without either, a decision only changes or stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from recorder.bundle.manifest import Frame, Manifest
from recorder.bundle.values import JsonValue, MappingValue, RecordValue, ScalarValue, SequenceValue, Value
from recorder.signals import confidence, reevaluate, top_class
from recorder.torch_settings import SETTINGS, acceptable
from replay.compare.comparison import Answer
from replay.exchange import ReadTensor, recorded_answer
from replay.failure import frame_fails
from replay.numerics.settings import WorkerPlan
from replay.outcome import Job, Outcome, Raised, Returned
from replay.pipeline.edits import EDITS, Edit, parse_edit
from replay.show.answers import say
from replay.show.text import inert
from replay.verdict import FrameChange, Level

if TYPE_CHECKING:
    from replay.class_names import ClassNames

__all__ = ["JUDGING", "CallChanges", "Changes", "Judge", "Side", "changed_plan", "parse_changes"]

#: Triggers that one answer alone decides.
JUDGING = ("exception", "non_finite", "low_confidence")

#: Fields of an answer that hold its class.
_CLASS_FIELDS = frozenset(
    (
        "label",
        "labels",
        "class",
        "classes",
        "class_id",
        "class_ids",
        "class_name",
        "category",
        "prediction",
        "predicted",
    )
)

_WORDS: dict[str, JsonValue] = {"true": True, "on": True, "false": False, "off": False}


@dataclass(frozen=True, slots=True)
class Changes:
    """What the user wants changed."""

    edits: tuple[Edit, ...] = ()
    settings: Mapping[str, JsonValue] = field(default_factory=dict)  #: by the dotted names of recorder.torch_settings
    weights: str | None = None  #: a safetensors file, or "own" for those of the factory
    pipeline: bool = False  #: the user's pipeline is not the one that recorded: what it answers is judged
    texts: tuple[str, ...] = ()  #: as they were typed

    def __bool__(self) -> bool:
        return bool(self.edits or self.settings or self.weights or self.pipeline)


def parse_changes(specifications: Sequence[str], weights: str | None) -> Changes:
    """Read ``--set NAME=VALUE`` and ``--weights``.

    Raises:
        ValueError: a name is unknown or a value out of range; one sentence with the choices.
    """
    edits: list[Edit] = []
    settings: dict[str, JsonValue] = {}
    for specification in specifications:
        name, equals, value = specification.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, not {specification[:80]!r}")
        kind, _, rest = name.partition(".")
        if kind == "image":
            edits.append(parse_edit(rest, value))
            continue
        setting = next((each for each in SETTINGS if each.name == name), None)
        if setting is None:
            raise ValueError(
                f"--set has no {name[:80]!r}: it is image.EDIT ({', '.join(EDITS)}) or one of "
                + ", ".join(each.name for each in SETTINGS)
            )
        wanted: JsonValue = _WORDS.get(value.lower(), value) if setting.kind is bool else value
        if setting.kind is int and value.isdecimal():
            wanted = int(value)
        if not acceptable(setting, wanted):
            raise ValueError(f"--set {name} does not take {value[:80]!r}")
        settings[name] = wanted
    texts = [*specifications, *([f"weights={weights}"] if weights else [])]
    return Changes(tuple(edits), settings, weights, texts=tuple(inert(text, 200) for text in texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One answer to a frame: the recorded one or the changed one."""

    answer: Answer | None = None
    row: int | None = None  #: the frame's item in a batch
    raised: str | None = None  #: qualified name of an exception
    #: Whether the trigger fires on each of the frame's model calls, in their order; None: the answer tells it.
    fired: tuple[bool | None, ...] | None = None

    @property
    def text(self) -> str:
        """The decision in a few words, "" where it has none."""
        if self.raised is not None:
            return f"raised {inert(self.raised, 80)}"
        if self.answer is None or self.answer.value is None:
            return ""
        top = top_class(self.answer.value, self.answer.tensors, None, self.row)
        sure = confidence(self.answer.value, self.answer.tensors, None, self.row)
        if top is not None and top.isdigit():
            return f"class {top}" + (f" ({sure:.2f})" if sure is not None else "")
        return say(self.answer.value) or ("" if sure is None else f"confidence {sure:.2f}")

    @property
    def names(self) -> frozenset[str]:
        """What classes the answer can be said to name: its top class, or what its fields say."""
        if self.answer is None or self.answer.value is None:
            return frozenset()
        found = set(_said(self.answer.value))
        top = top_class(self.answer.value, self.answer.tensors, None, self.row)
        return frozenset(found | ({top} if top is not None else set()))


class Judge:
    """Says of a frame's two answers what the change did."""

    def __init__(self, manifest: Manifest, truth: str, classes: ClassNames) -> None:
        """``truth`` is the metadata key of the right answer, where a frame has it; ``classes`` are their names."""
        self._truth = truth
        self._classes = classes
        trigger = manifest.incident.triggers[0] if manifest.incident.triggers else None
        self._trigger = trigger if trigger is not None and trigger.kind in JUDGING else None
        self._by_truth = any(frame.metadata.get(truth) is not None for frame in manifest.frames)

    @property
    def judged_by(self) -> str:
        """What says that an answer is wrong, "" when nothing does."""
        parts = [f"metadata {inert(self._truth, 80)}"] if self._by_truth else []
        parts += [f"trigger {self._trigger.kind}"] if self._trigger is not None else []
        return ", else ".join(parts)

    def change(self, frame: Frame, recorded: Side, replayed: Side | None, level: Level) -> FrameChange:
        """Judge one frame.

        Args:
            frame: the recorded frame.
            recorded: its answer.
            replayed: the answer after the change; None where it could not be run.
            level: how the two compare on the ladder.
        """
        if replayed is None:
            return FrameChange(id=frame.id, outcome="unknown", recorded=recorded.text, replayed="")
        then, now = self._wrong(frame, recorded, recorded=True), self._wrong(frame, replayed)
        outcome = (
            {
                (True, False): "fixed",
                (True, True): "still wrong",
                (False, True): "newly wrong",
                (False, False): "still right",
            }.get((then, now))
            if then is not None and now is not None
            else None
        )
        if outcome is None:
            outcome = "changed" if level is Level.DIVERGED else "unchanged"
        return FrameChange(id=frame.id, outcome=outcome, recorded=recorded.text, replayed=replayed.text)

    def _wrong(self, frame: Frame, side: Side, *, recorded: bool = False) -> bool | None:
        truth = frame.metadata.get(self._truth)
        if truth is not None and not isinstance(truth, dict | list):
            if side.raised is not None:
                return True
            right = self._classes.says(side.names, truth)
            if right is not None:
                return not right
        if self._trigger is None:
            return None
        found = self.fires(side) if side.fired is None or side.raised is not None else self._fails(side)
        # What fired was recorded: where these answers do not show it, they do not tell of it.
        return None if found is False and frame.id == self._trigger.frame and recorded else found

    def _fails(self, side: Side) -> bool | None:
        """By the frame's model calls; of a pipeline in which none was seen, by its answer, as far as that tells."""
        assert self._trigger is not None and side.fired is not None  # noqa: S101 - asked by `_wrong`
        if side.fired:
            return frame_fails(self._trigger.kind, side.fired)
        found = self.fires(side)
        return found if found or self._trigger.kind == "low_confidence" else None

    def fires(self, side: Side) -> bool | None:
        """Whether the incident's trigger fires on one answer; None where that cannot be told."""
        if self._trigger is None:
            return None
        if self._trigger.kind == "exception":
            return side.raised is not None
        if side.raised is not None:
            return True
        if side.answer is None or side.answer.value is None:
            return None
        parameters = dict(self._trigger.parameters) | ({"row": side.row} if side.row is not None else {})
        return reevaluate(self._trigger.kind, parameters, side.answer.value, side.answer.tensors)


class CallChanges:
    """Says call by call what a change made of the frames: the last call answers, and the trigger may fire on any."""

    def __init__(self, judge: Judge, frames: Sequence[Frame], read: ReadTensor) -> None:
        """Begin.

        Args:
            judge: who says it.
            frames: those that are replayed.
            read: gives a recorded tensor's bytes.
        """
        self._judge = judge
        self._frames = frames
        self._read = read
        self._fired: dict[int, tuple[tuple[bool | None, ...], tuple[bool | None, ...]]] = {}

    def after(self, job: Job, outcome: Outcome, level: Level) -> dict[int, FrameChange]:
        """Return what is known now of the frames of one call, by frame id.

        Args:
            job: the recorded call.
            outcome: what came of it after the change.
            level: how the two compare.
        """
        call = job.call
        if call.status == "open":
            return {}
        recorded = Answer(value=None, tensors={}) if call.output is None else recorded_answer(call.output, self._read)
        raised = call.exception.type if call.exception else None
        changes = {}
        for frame in self._frames:
            if call.id not in frame.calls:
                continue
            row = call.frames.index(frame.id) if len(call.frames) > 1 and frame.id in call.frames else None
            then = Side(answer=recorded, row=row, raised=raised)
            now = None
            if isinstance(outcome, Returned):
                now = Side(answer=outcome.answer, row=row)
            elif isinstance(outcome, Raised) and outcome.cannot is None:
                now = Side(raised=outcome.type)
            before, after = self._fired.get(frame.id, ((), ()))
            fired = (
                (*before, self._judge.fires(then)),
                (*after, None if now is None else self._judge.fires(now)),
            )
            self._fired[frame.id] = fired
            then, now = replace(then, fired=fired[0]), None if now is None else replace(now, fired=fired[1])
            changes[frame.id] = self._judge.change(frame, then, now, level)
        return changes


def changed_plan(plan: WorkerPlan, changes: Changes) -> WorkerPlan:
    """Return a plan with the settings the user wants otherwise. Threads have to be known before torch is imported."""
    if not changes.settings:
        return plan
    variables = dict(plan.variables)
    if "torch.num_threads" in changes.settings and plan.profile != "here":
        variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(changes.settings["torch.num_threads"]))
    return replace(plan, variables=variables, settings={**plan.settings, **changes.settings})


def _said(value: Value) -> list[str]:
    """What of an answer can name a class: fields called so, else its texts, else its only whole number.

    A count or a number of a frame beside the class is no class: that an answer holds a 1 does not make it class 1.
    """
    fields = value.items if isinstance(value, MappingValue) else value.fields if isinstance(value, RecordValue) else ()
    named = [item for key, item in fields if str(key).lower() in _CLASS_FIELDS]
    if named:
        return [name for item in named for name in _scalars(item)]
    found = _scalars(value)
    texts = [name for name in found if not name.removeprefix("-").isdigit()]
    return texts or (found if len(set(found)) == 1 else [])


def _scalars(value: Value, depth: int = 0) -> list[str]:
    match value:
        case ScalarValue(value=str() | int() as plain) if not isinstance(plain, bool):
            return [str(plain)]
        case SequenceValue(items=items) if depth < 2:
            return [name for item in items for name in _scalars(item, depth + 1)]
        case MappingValue(items=pairs) | RecordValue(fields=pairs) if depth < 2:
            return [name for _, item in pairs for name in _scalars(item, depth + 1)]
    return []
