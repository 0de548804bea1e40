"""Which stage of a pipeline gave something else: decode, preprocess, model, postprocess, each held against the record.

A stage is judged by itself: where its input already differed, the difference is said to be handed down, and the first
stage that differs is the one to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recorder.bundle import Bundle, PixelsDiffer
from recorder.bundle.manifest import Call, Frame, Model
from recorder.bundle.values import Value, tensors_of
from replay.batch import take_items
from replay.compare.comparison import Answer, compare_answers
from replay.compare.layout import logical_bits, real_values
from replay.exchange import recorded_answer
from replay.pipeline.run import ModelCall, Ran
from replay.pipeline.skew import name_skew
from replay.show.text import inert
from replay.verdict import Difference, Level, StageVerdict, worst

__all__ = ["PipelineVerdict", "compare_stages"]

_OTHER_STATE = (
    "its model changes tensors of its own from call to call, and a pipeline begins without what the recorded one had; "
    "replay without --pipeline gives it to the model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineVerdict:
    """What the pipeline's run says about one frame."""

    level: Level  #: of the last stage that could be compared: what the service would have answered
    stages: tuple[StageVerdict, ...] = ()
    reason: str = ""  #: why it could not be run or compared
    failure_reproduced: bool | None = None  #: for a frame through which an exception passed


def compare_stages(
    bundle: Bundle, frame: Frame, ran: Ran, *, thresholds: Sequence[float] = (), edited: bool = False
) -> PipelineVerdict:
    """Hold one frame's run against what was recorded.

    Args:
        bundle: open; recorded tensors and images are read from it.
        frame: the recorded frame.
        ran: what the pipeline gave.
        thresholds: confidences at which the service acts.
        edited: whether the image was changed on purpose, so that decoding says nothing.

    Raises:
        BundleInvalid, BundleUnavailable: recorded bytes are not what the manifest says.
    """
    if ran.failed is not None:
        return PipelineVerdict(level=Level.NOT_REPLAYABLE, reason=f"the pipeline could not be run: {ran.failed}")
    stages = [] if edited else _decode(bundle, frame)
    by_id = {call.id: call for call in bundle.manifest.calls}
    models = {model.id: model for model in bundle.manifest.models}
    recorded = [by_id[each] for each in frame.calls if each in by_id and by_id[each].parent is None]
    stages += _models(bundle, frame, recorded, models, ran, thresholds)
    remembers = any(models[call.model].state for call in recorded)
    if ran.raised is not None or frame.status == "raised":
        return _from_another_state(_exceptions(frame, ran, stages), remembers)
    if frame.output is not None and ran.answer is not None:
        compared = compare_answers(
            recorded_answer(frame.output, bundle.tensor_bytes), ran.answer, thresholds=thresholds, where="answer"
        )
        stages.append(_stage("postprocess", compared.level, compared.first_difference))
    answers = [stage for stage in stages if stage.name in ("model", "postprocess") and stage.compared]
    if not answers:
        reason = "the pipeline called no model that was recorded, and the service's answer was not recorded"
        return PipelineVerdict(level=Level.NOT_REPLAYABLE, stages=tuple(stages), reason=reason)
    return _from_another_state(PipelineVerdict(level=_final(answers), stages=tuple(stages)), remembers)


def _from_another_state(verdict: PipelineVerdict, remembers: bool) -> PipelineVerdict:
    """A pipeline's model cannot be given the state that the recorded one had: its other answer proves nothing."""
    if not remembers or verdict.level is not Level.DIVERGED:
        return verdict
    return replace(verdict, level=Level.INCONCLUSIVE, reason=_OTHER_STATE)


def _final(answers: Sequence[StageVerdict]) -> Level:
    """The service's own answer where it was recorded; else the worst of the models'."""
    post = [stage.level for stage in answers if stage.name == "postprocess"]
    return post[-1] if post else worst([stage.level for stage in answers])


def _decode(bundle: Bundle, frame: Frame) -> list[StageVerdict]:
    """Files are decoded here with this machine's library; pixels that were handed over as pixels are themselves."""
    stages = []
    for image in frame.images:
        if image.source not in ("encoded", "path") or image.pixels_sha256 is None:
            continue
        level, difference = Level.BIT_EXACT, None
        try:
            bundle.pixels(image)
        except PixelsDiffer as differ:
            level = Level.WITHIN_TOLERANCE  # lossy files are decoded to within a grey level or two
            difference = Difference(stage="decode", where=inert(image.name, 80), what=inert(differ, 300))
        stages.append(_stage("decode", level, difference))
    return stages


def _models(
    bundle: Bundle,
    frame: Frame,
    recorded: Sequence[Call],
    models: dict[int, Model],
    ran: Ran,
    thresholds: Sequence[float],
) -> list[StageVerdict]:
    stages: list[StageVerdict] = []
    if not ran.calls and recorded:
        if any(models[call.model].framework != "callable" for call in recorded) and ran.raised is None:
            note = "the pipeline called no torch module and no onnxruntime session"
            stages.append(StageVerdict(name="model", level=Level.NOT_REPLAYABLE, note=note, compared=False))
        return stages
    for call, again in zip(recorded, ran.calls, strict=False):
        name = f"call {call.id} ({inert(models[call.model].name, 80)})"
        if call.status == "open" or (item := _item_of(call, frame, again)) is None:
            continue
        stages.append(_preprocess(bundle, call, again, name, item))
        # A state is among the pipeline's own tensors and not among the recorded weights.
        weights = models[call.model].weights if not models[call.model].state else None
        note = ""
        if weights is not None and again.weights is not None and weights.digest != again.weights:
            note = f"the pipeline's model has other weights: {again.weights[:12]}…, recorded {weights.digest[:12]}…"
        if call.output is not None and again.output is not None:
            compared = compare_answers(
                _part(bundle, call.output, item), again.output, thresholds=thresholds, where=f"{name} output"
            )
            stages.append(_stage("model", compared.level, compared.first_difference, note))
    if len(recorded) != len(ran.calls) and ran.raised is None and all(call.status == "returned" for call in recorded):
        what = f"{len(recorded)} calls of models were recorded, {len(ran.calls)} were made"
        stages.append(
            _stage("preprocess", Level.DIVERGED, Difference(stage="preprocess", where="calls of models", what=what))
        )
    return stages


def _preprocess(bundle: Bundle, call: Call, again: ModelCall, name: str, item: _Item) -> StageVerdict:
    args = _part(bundle, call.args, item)
    compared = compare_answers(args, again.args, task="none", where=f"{name} input")  # an input decides nothing
    level, difference = compared.level, compared.first_difference
    if level is Level.BIT_EXACT and call.kwargs.items:
        compared = compare_answers(_part(bundle, call.kwargs, item), again.kwargs, task="none", where=f"{name} input")
        level, difference = compared.level, compared.first_difference
    if difference is not None:
        difference = replace(difference, stage="preprocess", what=_named(args, again.args) or difference.what)
    return _stage("preprocess", level, difference)


def _named(recorded: Answer, replayed: Answer) -> str | None:
    """The first tensor that differs, with what became of it."""
    theirs = dict(tensors_of(replayed.value)) if replayed.value is not None else {}
    for path, tensor in tensors_of(recorded.value) if recorded.value is not None else ():
        other = theirs.get(path)
        if other is None:
            return None
        if recorded.tensors[path] != replayed.tensors[path] or tensor.dtype != other.dtype:
            if tensor.dtype != other.dtype:
                return f"its dtype is {other.dtype}, {tensor.dtype} was recorded"
            return name_skew(
                *(
                    real_values(logical_bits(side.tensors[path], each.dtype, each.shape, each.strides), each.dtype)
                    for side, each in ((recorded, tensor), (replayed, other))
                )
            )
    return None


@dataclass(frozen=True, slots=True)
class _Item:
    """Which item of a batch a frame is."""

    index: int
    count: int


def _item_of(call: Call, frame: Frame, again: ModelCall) -> _Item | None:
    if len(call.frames) <= 1:
        return _Item(0, 1)
    if frame.id not in call.frames:
        return None
    return _Item(call.frames.index(frame.id), len(call.frames))


def _part(bundle: Bundle, value: Value, item: _Item) -> Answer:
    """A recorded value; of a batch, what belongs to one item, as a batch of one."""
    whole = recorded_answer(value, bundle.tensor_bytes)
    return whole if item.count == 1 else take_items(whole, item.count, [item.index])


def _exceptions(frame: Frame, ran: Ran, stages: list[StageVerdict]) -> PipelineVerdict:
    """The same type is the same failure."""
    recorded = frame.exception
    said = f"{ran.raised}: {ran.message}" if ran.raised is not None else ""
    if recorded is None or ran.raised is None or recorded.type != ran.raised:
        then = inert(recorded.type, 120) if recorded is not None else "an answer"
        what = f"{then} was recorded, the pipeline " + (f"raised {said}" if said else "returned an answer")
        difference = Difference(
            stage="exception",
            where="pipeline",
            what=what,
            recorded=None if recorded is None else then,
            replayed=ran.raised,
        )
        stages.append(_stage("exception", Level.DIVERGED, difference))
        shows = False if recorded is not None else None
        return PipelineVerdict(level=Level.DIVERGED, stages=tuple(stages), failure_reproduced=shows)
    same = inert(recorded.message, 400) == ran.message
    level = Level.BIT_EXACT if same else Level.SAME_DECISION
    other_message = None
    if not same:
        other_message = Difference(
            stage="exception",
            where="pipeline",
            what=f"the same {ran.raised} with another message",
            recorded=inert(recorded.message, 120),
            replayed=ran.message[:120],
        )
    stages.append(_stage("exception", level, other_message))
    return PipelineVerdict(level=level, stages=tuple(stages), failure_reproduced=True)


def _stage(name: str, level: Level, difference: Difference | None, note: str = "") -> StageVerdict:
    if difference is not None and difference.stage != name:
        difference = replace(difference, stage=name)
    return StageVerdict(name=name, level=level, difference=difference, note=note)
