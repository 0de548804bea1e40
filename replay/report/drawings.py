"""What a model answered, as something to draw on the image: boxes, masks, the five likeliest classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Call, Frame
from recorder.bundle.reader import Bundle
from recorder.bundle.values import MappingValue, RecordValue, SequenceValue, TensorValue, Value, tensors_of
from recorder.signals import summarize_answer
from replay.placing import input_size, placing_of
from replay.report.pictures import png_uri

__all__ = ["Box", "Drawing", "boxes_of", "classes_of", "drawing", "mask_colours"]

Array = npt.NDArray[Any]

#: Values that are read to be drawn; a map of 21 classes of 520 x 520 pixels has 23 MB.
_MAX_TENSOR_BYTES = 32 * 2**20

#: Boxes on one image, best first: more hide it.
_BOXES_SHOWN = 20

#: Longer side of a mask: it is drawn stretched.
_MASK_SIDE = 240

_CLASSES_SHOWN = 5

#: Colours of masks (Okabe and Ito 2008, told apart by colour-blind readers), with the alpha they are drawn at.
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_ALPHA = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box in pixels of the image."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One frame's answer."""

    boxes: tuple[Box, ...] = ()
    boxes_left_out: int = 0
    mask: str | None = None  #: data: URI of a PNG
    classes: tuple[tuple[int, float], ...] = ()  #: index and probability, likeliest first
    confidence: float | None = None


def drawing(bundle: Bundle, frame: Frame, calls: Mapping[int, Call], mask_bytes: int = 20_000) -> Drawing:
    """Return what can be drawn of an answer; a damaged or odd tensor, or a mask above its budget, is left out.

    So are boxes of a model that may have seen the picture with borders.
    """
    own = [calls[each] for each in frame.calls if each in calls]
    answers: list[tuple[Value, int | None, Call | None]] = [] if frame.output is None else [(frame.output, None, None)]
    # What a detector's last network said of its candidates is no answer of the service: its own answer has the boxes.
    call = own[-1] if own else None
    if (
        call is not None
        and call.output is not None
        and not _named(frame.output, None).keys() & {"boxes", "masks", "mask"}
    ):
        row = call.frames.index(frame.id) if len(call.frames) > 1 and frame.id in call.frames else None
        answers.append((call.output, row, call))
    boxes: tuple[Box, ...] = ()
    left_out, mask, confidence = 0, None, None
    classes: tuple[tuple[int, float], ...] = ()
    for value, row, asked in answers:
        named = _named(value, row)
        if not boxes and (found := _array(bundle, named.get("boxes"))) is not None:
            placed = _placed(found, frame, asked, row)
            scores, labels = _array(bundle, named.get("scores")), _array(bundle, named.get("labels"))
            boxes, left_out = ((), len(found)) if placed is None else boxes_of(placed, scores, labels)
        mask = mask or _mask(bundle, named, mask_bytes)
        tensor = _first_tensor(value)
        if not classes and tensor is not None and (numbers := _array(bundle, tensor)) is not None:
            classes = classes_of(numbers, row)
        if confidence is None:
            confidence = _confidence(bundle, value, row)
    return Drawing(boxes=boxes, boxes_left_out=left_out, mask=mask, classes=classes, confidence=confidence)


def _placed(boxes: Array, frame: Frame, call: Call | None, row: int | None) -> Array | None:
    """Boxes in pixels of the frame's picture; None where a model gave them and nobody knows how it saw the picture."""
    size = None if call is None else input_size(call, row)
    if size is None or not frame.images or boxes.ndim != 2 or boxes.shape[1] < 4:
        return boxes
    image = frame.images[0]
    placing = placing_of(size, (image.width, image.height)) if image.width and image.height else None
    return None if placing is None else placing.corners(boxes[:, :4].astype(np.float64))


def _named(value: Value | None, row: int | None) -> dict[str, Value]:
    match value:
        case MappingValue(items=pairs) | RecordValue(fields=pairs):
            return {str(key): item for key, item in pairs}
        case SequenceValue(items=items) if items:
            # a detector answers with a list, one entry per image
            return _named(items[row if row is not None and row < len(items) else 0], None)
    return {}


def _first_tensor(value: Value) -> TensorValue | None:
    match value:
        case TensorValue():
            return value
        case SequenceValue(items=(first, *_)):
            return _first_tensor(first)
        case MappingValue(items=pairs) | RecordValue(fields=pairs):
            named = [item for key, item in pairs if key in ("logits", "probs", "probabilities")]
            return next((item for item in named if isinstance(item, TensorValue)), None)
    return None


def _array(bundle: Bundle, value: Value | None) -> Array | None:
    if not isinstance(value, TensorValue) or not 0 < value.size_bytes <= _MAX_TENSOR_BYTES:
        return None
    if value.dtype.startswith("complex"):
        return None
    try:
        array = bundle.array(value)
    except BundleError:
        return None  # `replay verify` says what is damaged
    return array if math.prod(array.shape) * 8 <= 4 * _MAX_TENSOR_BYTES else None


def boxes_of(boxes: Array, scores: Array | None, labels: Array | None) -> tuple[tuple[Box, ...], int]:
    """Return boxes of corners x1, y1, x2, y2 in pixels (torchvision's form), best first, and how many are left out."""
    if boxes.ndim != 2 or boxes.shape[1] < 4:
        return (), 0
    corners = boxes[:, :4].astype(np.float64)
    sure = scores.astype(np.float64) if scores is not None and scores.shape == (len(boxes),) else None
    order = np.arange(len(boxes)) if sure is None else np.argsort(-np.nan_to_num(sure), kind="stable")
    found = []
    for index in order[:_BOXES_SHOWN].tolist():
        left, top, right, bottom = corners[index].tolist()
        if not all(abs(each) < 1e6 for each in (left, top, right, bottom)) or right <= left or bottom <= top:
            continue
        words = []
        if labels is not None and labels.shape == (len(boxes),):
            words.append(f"class {int(labels[index])}" if np.isfinite(labels[index]) else "")
        if sure is not None:
            words.append(f"{sure[index]:.2f}")
        found.append(Box(x=left, y=top, width=right - left, height=bottom - top, label=" ".join(words)))
    return tuple(found), max(0, len(boxes) - _BOXES_SHOWN)


def _mask(bundle: Bundle, named: dict[str, Value], max_bytes: int) -> str | None:
    masks = _array(bundle, named.get("masks", named.get("mask")))
    colours = mask_colours(masks, _array(bundle, named.get("out")) if masks is None else None)
    return None if colours is None else png_uri(colours, max_bytes)


def mask_colours(masks: Array | None, scores: Array | None) -> npt.NDArray[np.uint8] | None:
    """Return masks as HW4 colours, RGBA, at most 240 pixels wide and high; None where there is nothing to draw.

    Args:
        masks: of instances (N, H, W or N, 1, H, W), or a map of classes (H, W), 0 the background.
        scores: of classes (1, C, H, W), the first the background.
    """
    if masks is not None and masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if masks is not None and masks.ndim == 3 and masks.shape[0]:
        masks = _thinned(masks)
        on = masks > (0.5 if masks.dtype.kind == "f" else 0)
        index = np.where(on.any(axis=0), on.argmax(axis=0) + 1, 0)
    elif masks is not None and masks.ndim == 2:
        index = np.clip(np.nan_to_num(_thinned(masks).astype(np.float32)), 0, 2**31).astype(np.int64)
    elif scores is not None and scores.ndim == 4 and scores.shape[1] > 1 and scores.shape[0]:
        index = _thinned(scores[0]).astype(np.float32).argmax(axis=0)
    else:
        return None
    if not index.size or not index.any():
        return None
    palette = np.array([(*colour, _ALPHA) for colour in _COLOURS], np.uint8)
    colours = palette[(index - 1) % len(palette)]
    colours[index == 0] = 0
    return np.ascontiguousarray(colours)


def _thinned(array: Array) -> Array:
    step = max(1, -(-max(array.shape[-2:]) // _MASK_SIDE))
    return array[..., ::step, ::step]


def classes_of(numbers: Array, row: int | None) -> tuple[tuple[int, float], ...]:
    """Return index and probability of the likeliest classes, of (classes) or one row of (batch, classes)."""
    if numbers.dtype.kind != "f" or numbers.ndim not in (1, 2) or not numbers.size or numbers.shape[-1] < 2:
        return ()
    if numbers.ndim == 2:
        numbers = numbers[row if row is not None and row < len(numbers) else 0]
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        return ()
    if numbers.min() < 0 or abs(numbers.sum() - 1) > 1e-2:  # logits
        numbers = np.exp(numbers - numbers.max())
        numbers /= numbers.sum()
    order = np.argsort(-numbers, kind="stable")[:_CLASSES_SHOWN].tolist()
    return tuple((index, float(numbers[index])) for index in order)


def _confidence(bundle: Bundle, value: Value, row: int | None) -> float | None:
    tensors: dict[str, bytes] = {}
    for path, tensor in tensors_of(value):
        if tensor.size_bytes <= 2**20 and len(tensors) < 16:
            try:
                tensors[path] = bundle.tensor_bytes(tensor)
            except BundleError:
                return None
    try:
        number = summarize_answer(value, tensors, row).confidence
    except (ValueError, IndexError, OverflowError):
        return None  # of no form that says how sure it is
    return number if math.isfinite(number) else None
