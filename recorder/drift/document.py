"""A stream's reference as JSON-able data, and back from data that nobody vouches for."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.drift.answers import MAX_CLASSES, QUANTILES, AnswerNormal
from recorder.drift.calibration import Tail
from recorder.drift.moments import MAX_MEMORY, Moments, Part
from recorder.drift.normal import GROUPS, MAX_RATE, MIN_FRAMES, SHORT_RATE, Normal
from recorder.drift.scores import LARGEST, MAX_DIRECTIONS, MAX_EMBEDDING, Scores

__all__ = ["normal_from_document", "normal_to_document"]

Array = npt.NDArray[np.float64]

MAX_SIGNALS = 128
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\- ]{0,79}")
_PARTS = ("image", "answer", "signals", "embedding")


def normal_to_document(normal: Normal) -> dict[str, Any]:
    """Return a stream's reference as data."""
    scores = normal.scores
    return {
        "frames": normal.frames,
        "rarest": normal.rarest,
        "names": list(scores.names),
        "parts": [[part.name, part.size] for part in scores.parts],
        "logarithmic": [None if np.isnan(floor) else float(floor) for floor in scores.floor],
        "centre": _packed(scores.centre),
        "directions": _packed(scores.directions),
        "moments": {each.name: _packed(getattr(normal.moments, each.name)) for each in dataclasses.fields(Moments)},
        "tails": {
            name: {
                "location": _packed(tail.location),
                "scale": _packed(tail.scale),
                "joint": [tail.joint_location, tail.joint_scale],
            }
            for name, tail in normal.tails.items()
        },
        "answers": None if normal.answers is None else _answers_to_document(normal.answers),
    }


def normal_from_document(document: Any) -> Normal:
    """Read a stream's reference.

    Raises:
        ValueError: a part is missing, too large, not finite, or states what cannot be.
    """
    try:
        return _normal(document)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, binascii.Error) as error:
        raise ValueError("The reference lacks a part, or has one that cannot be; learn it again.") from error


def _normal(document: dict[str, Any]) -> Normal:
    names = tuple(document["names"])
    if len(names) > MAX_SIGNALS or len(set(names)) != len(names) or not all(map(_NAME.fullmatch, names)):
        raise ValueError("The reference names signals that cannot be.")
    parts = tuple(Part(str(name), int(size)) for name, size in document["parts"])
    order = [_PARTS.index(part.name) for part in parts] if all(part.name in _PARTS for part in parts) else [0, 0]
    if not parts or order != sorted(set(order)) or any(part.size < 1 for part in parts):
        raise ValueError("The reference's parts cannot be.")
    m = sum(part.size for part in parts)
    centre = _unpacked(document["centre"], 1)
    d = len(centre)
    if d > MAX_EMBEDDING or m > MAX_SIGNALS + MAX_DIRECTIONS + 1:
        raise ValueError("The reference is larger than any this program makes.")
    directions = _unpacked(document["directions"], 2, (d, m - len(names) - 1) if d else (0, 0))
    embedding = parts[-1].size if parts[-1].name == "embedding" else 0
    if m - embedding != len(names) or embedding != (directions.shape[1] + 1 if d else 0):
        raise ValueError("The reference's parts do not add up.")
    given = document["logarithmic"]
    floor = np.array([np.nan if each is None else float(each) for each in given])
    if len(floor) != len(names) or not np.all(np.isnan(floor) | ((floor > 0) & (floor < LARGEST))):
        raise ValueError("The reference's logarithms cannot be.")
    scores = Scores(names, parts, floor, centre, directions)
    moments = _moments(document["moments"], m, parts)
    tails, answers = _tails(document["tails"], scores, moments), document.get("answers")
    known = None if answers is None else _answers(answers)
    # Written before levels covered what a reference does not know, it has none, and keeps that of a short one.
    rarest = _count(document.get("rarest", SHORT_RATE))
    return Normal(_count(document["frames"]), scores, moments, tails, known, min(rarest, MAX_RATE))


def _moments(given: dict[str, Any], m: int, parts: tuple[Part, ...]) -> Moments:
    p = len(parts)
    shapes = {
        "mean": (m,), "scale": (m,), "memory": (m,), "whitening": (2, m, m), "gain": (2, m),
        "level": (2, p), "spread": (2, p),
    }  # fmt: skip
    moments = Moments(**{name: _unpacked(given[name], len(shape), shape) for name, shape in shapes.items()})
    positive = (moments.scale, moments.gain, moments.level, moments.spread)
    if not all((each > 0).all() for each in positive) or moments.memory.min() < 0 or moments.memory.max() > MAX_MEMORY:
        raise ValueError("The reference's spreads cannot be.")
    outside = np.ones((m, m), bool)
    start = 0
    for part in parts:
        outside[start : start + part.size, start : start + part.size] = False
        start += part.size
    for each in moments.whitening:
        if each[outside].any() or not np.allclose(each, each.T) or np.linalg.eigvalsh(each).min() <= 0:
            raise ValueError("The reference's covariance is none.")
    return moments


def _tails(given: dict[str, Any], scores: Scores, moments: Moments) -> dict[str, Tail]:
    empty = Normal(0, scores, moments, {})
    tails = {}
    for name in GROUPS:
        count = len(empty.group(name))
        if not count:
            continue
        location, scale = (_unpacked(given[name][each], 1, (count,)) for each in ("location", "scale"))
        joint_location, joint_scale = (float(each) for each in given[name]["joint"])
        if not (scale > 0).all() or not 0 < joint_scale < LARGEST or not abs(joint_location) < LARGEST:
            raise ValueError("The reference's thresholds cannot be.")
        tails[name] = Tail(location, scale, joint_location, joint_scale)
    return tails


def _answers_to_document(answers: AnswerNormal) -> dict[str, Any]:
    return {
        "classes": dict(answers.classes),
        "quantiles": _packed(answers.quantiles),
        "shares": [answers.class_share, answers.confidence_share],
        "humps": answers.humps,
        "frames": answers.frames,
    }


def _answers(given: dict[str, Any]) -> AnswerNormal:
    classes = {str(name)[:200]: count for name, count in given["classes"].items()}
    quantiles = _unpacked(given["quantiles"], 1)
    class_share, confidence_share = (float(each) for each in given["shares"])
    humps = float(given["humps"])
    counted = all(type(count) is int and 0 <= count <= 2**53 for count in classes.values())
    if not counted or len(classes) > MAX_CLASSES + 1 or len(quantiles) not in (0, QUANTILES):
        raise ValueError("The reference's answers cannot be.")
    if np.any(np.diff(quantiles) < 0) or not (0 < class_share <= 1 and 0 < confidence_share <= 1 and 0 <= humps <= 2):
        raise ValueError("The reference's answers cannot be.")
    return AnswerNormal(classes, class_share, quantiles, confidence_share, humps, _count(given["frames"]))


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not MIN_FRAMES <= value <= 2**53:
        raise ValueError("The reference's number of frames cannot be.")
    return value


def _packed(array: Array) -> dict[str, Any]:
    # Written by one machine and read by another: what both calculate with must be the same, to the last bit.
    data = np.ascontiguousarray(array, "<f8").tobytes()
    return {"shape": list(array.shape), "data": base64.b64encode(data).decode("ascii")}


def _unpacked(given: dict[str, Any], ndim: int, shape: tuple[int, ...] | None = None) -> Array:
    stated = tuple(given["shape"])
    if len(stated) != ndim or not all(type(size) is int and 0 <= size <= 1024 for size in stated):
        raise ValueError("The reference holds an array of a shape that cannot be.")
    if shape is not None and stated != shape:
        raise ValueError("The reference holds an array of another shape than its parts.")
    count = int(np.prod(stated))
    text = given["data"]
    if not isinstance(text, str) or len(text) != 4 * -(-8 * count // 3):
        raise ValueError("The reference holds an array that is cut or too long.")
    array = np.frombuffer(base64.b64decode(text, validate=True), "<f8").reshape(stated).astype(np.float64)
    if not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > LARGEST:
        raise ValueError("The reference holds numbers that are not finite.")
    return array
