"""What a model answered, in a few words, where its output's form allows it: a class, a number of boxes, a scalar."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Call, Frame
from recorder.bundle.reader import Bundle
from recorder.bundle.values import MappingValue, RecordValue, ScalarValue, SequenceValue, TensorValue, Value
from replay.show.text import inert

__all__ = ["say", "short_answers"]

_STRUCT_CODES = {"float16": "e", "float32": "f", "float64": "d"}

#: Outputs above this are not decoded for a line in a table.
_MAX_BYTES = 1 << 20

#: All members that are read for it together: a listing has to stay quick, from a bucket too.
_MAX_TOTAL_BYTES = 1 << 19


def short_answers(bundle: Bundle, frames: Sequence[Frame]) -> dict[int, str]:
    """Return ``{frame id: "class 282 (0.93)"}`` for frames whose answer can be said in a few words.

    A damaged output is left out: `replay verify` is there to say what is damaged. So are those that would take more
    than half a megabyte to read.
    """
    sizes = {member.path: member.size_bytes for member in bundle.manifest.members}
    by_id = {call.id: call for call in bundle.manifest.calls}
    answers: dict[int, str] = {}
    budget_bytes = _MAX_TOTAL_BYTES
    for frame in frames:
        calls = [by_id[each] for each in frame.calls if each in by_id]
        said = say(frame.output)
        if not said and calls:
            call = calls[-1]
            tensor = _single_tensor(call.output)
            said = say(call.output)
            if not said and tensor is not None:
                budget_bytes -= sizes.pop(tensor.member, 0)  # once for all that share it
                said = _top_class(bundle, frame, call, tensor) if budget_bytes >= 0 else ""
        if said:
            answers[frame.id] = said
    return answers


def say(value: Value | None) -> str:
    """A scalar, a labelled scalar, or how many boxes there are."""
    match value:
        case ScalarValue(value=bool() | int() | float() | str() as plain):
            return inert(f"{plain:.4g}" if isinstance(plain, float) else plain, 40)
        case MappingValue() | RecordValue():
            fields = dict(value.items if isinstance(value, MappingValue) else value.fields)
            boxes = fields.get("boxes")
            if isinstance(boxes, TensorValue) and len(boxes.shape) == 2:
                return f"{boxes.shape[0]} box{'' if boxes.shape[0] == 1 else 'es'}"
            scalars = [f"{key} {said}" for key, item in fields.items() if (said := _scalar(item))]
            return inert(", ".join(scalars[:3]), 40)
        case SequenceValue(items=(only,)):
            return say(only)
    return ""


def _scalar(value: Value) -> str:
    return say(value) if isinstance(value, ScalarValue) else ""


def _single_tensor(value: Value | None) -> TensorValue | None:
    match value:
        case TensorValue():
            return value
        case SequenceValue(items=(first, *_)):
            return _single_tensor(first)
        case MappingValue(items=pairs) | RecordValue(fields=pairs):
            named = [item for key, item in pairs if key in ("logits", "probs", "out")]
            return next((item for item in named if isinstance(item, TensorValue)), None)
    return None


def _top_class(bundle: Bundle, frame: Frame, call: Call, tensor: TensorValue) -> str:
    """The class of the frame's row of a (batch, classes) output in C order."""
    code = _STRUCT_CODES.get(tensor.dtype)
    if code is None or not 0 < tensor.size_bytes <= _MAX_BYTES or len(tensor.shape) != 2:
        return ""
    rows, classes = tensor.shape
    row = call.frames.index(frame.id) if frame.id in call.frames else 0
    if classes < 2 or row >= rows or (rows > 1 and tensor.strides[0] != classes) or tensor.strides[1] != 1:
        return ""
    try:
        data = bundle.tensor_bytes(tensor)
    except BundleError:
        return ""
    form = struct.Struct(f"<{classes}{code}")
    top, confidence = _most_likely(form.unpack_from(data, row * form.size))
    return "no finite value" if math.isnan(confidence) else f"class {top} ({confidence:.2f})"


def _most_likely(row: Sequence[float]) -> tuple[int, float]:
    """`replay.compare.scores.classify` for one row, without numpy: `replay show` does not wait for its import."""
    row = [-math.inf if math.isnan(value) else value for value in row]
    peak = max(row)
    top = row.index(peak)
    if not math.isfinite(peak):
        return top, math.nan
    if min(row) >= 0 and abs(sum(row) - 1) < 1e-3:
        return top, peak
    return top, 1 / sum(math.exp(value - peak) for value in row)
