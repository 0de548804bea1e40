"""A camera's cause model as JSON-able data, and back from data that nobody vouches for."""

from __future__ import annotations

from typing import Any

import numpy as np

from recorder.cause.discriminant import Discriminant
from recorder.cause.features import CASTS, POSE_FEATURES, Normal, feature_count
from recorder.cause.model import CLASSES, CauseModel
from recorder.cause.pose import THUMBNAIL_SIDE
from recorder.cause.statistics import CELLS
from recorder.cause.vocabulary import FITTED
from recorder.profile.arrays import packed, unpacked

__all__ = ["cause_from_document", "cause_to_document"]

MAX_STATISTICS, MAX_PLACES, MAX_SIDE = 512, 512, 2**16


def cause_to_document(model: CauseModel) -> dict[str, Any]:
    """Return a cause model as data."""
    normal, found = model.normal, model.discriminant
    thumb = normal.thumb
    return {
        "names": list(normal.names),
        "centre": packed(normal.centre),
        "spread": packed(normal.spread),
        "cells": packed(normal.cells),
        "cells_spread": packed(normal.cells_spread),
        "thumbnail": None if thumb is None else packed(np.rint(thumb * 255), "|u1"),
        "scale": packed(model.scale),
        "means": packed(found.means),
        "classes": [CLASSES[number] for number in found.classes],
        "weights": packed(found.weights),
        "priors": packed(found.priors),
        "temperature": found.temperature,
        "gate": model.gate,
        "severities": packed(model.severities),
        "shape": list(model.shape),
        "repeats": model.repeats,
    }


def cause_from_document(given: Any) -> CauseModel:
    """Read a cause model.

    Raises:
        ValueError: a part is missing, of another size than it must have, or cannot be. One sentence.
    """
    try:
        return _model(given)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError("the profile lacks a part, or has one that cannot be; make it again") from error


def _model(given: dict[str, Any]) -> CauseModel:
    names, classes = given["names"], given["classes"]
    if not all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in (names, classes)):
        raise ValueError("the profile's names are none; make it again")
    if not 0 < len(names) <= MAX_STATISTICS or len(set(names)) != len(names) or not 1 < len(classes) <= MAX_PLACES:
        raise ValueError("the profile has more parts than any this program makes")
    if not {name for pair in CASTS for name in pair} <= set(names):
        raise ValueError("the profile lacks a part, or has one that cannot be; make it again")
    if not set(classes) <= set(CLASSES):
        raise ValueError("the profile names causes that this program does not know; update it")
    k, cells = len(names), (3, CELLS, CELLS)
    thumb = given["thumbnail"]
    if thumb is not None:
        height, width = (int(side) for side in thumb["shape"])
        if not (0 < height <= THUMBNAIL_SIDE and 0 < width <= THUMBNAIL_SIDE):
            raise ValueError("the profile's thumbnail is larger than any this program makes")
        thumb = (unpacked(thumb, (height, width), "|u1") / 255).astype(np.float32)
    normal = Normal(
        tuple(names),
        unpacked(given["centre"], (k,)),
        unpacked(given["spread"], (k,)),
        unpacked(given["cells"], cells),
        unpacked(given["cells_spread"], cells),
        thumb,
    )
    f = feature_count(k) + (POSE_FEATURES if thumb is not None else 0)
    numbers = np.array([CLASSES.index(name) for name in classes], np.int64)
    discriminant = Discriminant(
        unpacked(given["means"], (len(classes), f)),
        numbers,
        unpacked(given["weights"], (f, f)),
        unpacked(given["priors"], (len(classes),)),
        _positive(given["temperature"]),
    )
    scale = unpacked(given["scale"], (f,))
    if min(scale.min(), normal.spread.min(), normal.cells_spread.min()) <= 0:
        raise ValueError("the profile's spreads cannot be; make it again")
    shape = given["shape"]
    if len(shape) != 2 or not all(type(side) is int and 0 < side < MAX_SIDE for side in shape):
        raise ValueError("the profile's frame size cannot be; make it again")
    severities = unpacked(given["severities"], (len(FITTED), f + 1))
    if not isinstance(given["repeats"], bool):
        raise ValueError("the profile lacks a part, or has one that cannot be; make it again")
    return CauseModel(
        normal, scale, discriminant, _positive(given["gate"]), severities, (shape[0], shape[1]), given["repeats"]
    )


def _positive(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e12:
        raise ValueError("the profile holds a number that cannot be; make it again")
    return float(value)
