"""Damage to profiles and references: ``python -m tests.attacks.profile_mutations --count 100000``.

A part of the document is taken out or becomes something else, numbers of its arrays become borders of what a float can
hold, or the text is cut and flipped. The outcome is a refusal in one sentence, or something that is asked and answers.
"""

from __future__ import annotations

import argparse
import base64
import copy
import functools
import json
import math
import random
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recorder.cause.discriminant import Discriminant
from recorder.cause.features import POSE_FEATURES, feature_count, learn_normal
from recorder.cause.model import CauseModel, windows_of
from recorder.cause.statistics import measure
from recorder.cause.views import views_of
from recorder.cause.vocabulary import CAUSES, FITTED
from recorder.drift import Reference, Watcher
from recorder.drift.file import load_reference
from recorder.profile import Profile
from tests.cause.conftest import scene
from tests.drift.conftest import NAMES, stream, vectors

__all__ = ["BATCH", "consistent_nonsense", "drawn_profile", "run_batch"]

BATCH = 100

_WORDS: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**63, 10**40, 1e300, -1e-300, 1e-320, 0.5, "", "x", "NaN", "\x1b[31m", [], {}, [0],
    [[]], {"shape": [2**31, 2**31], "data": ""}, {"shape": [0], "data": ""}, ["luminance"] * 3, {"": {}},
]  # fmt: skip
_NUMBERS = [0.0, -1.0, 1e-45, 1e-12, 1e9, -1e9, 1e12, 3e38, 1e308, math.inf, math.nan]


@functools.cache
def _views() -> Any:
    return views_of(scene(8, seed=1, height=36, width=48))


@functools.cache
def _profile() -> dict[str, Any]:
    """A document as `Profile.fit` makes it, of a discriminant that was drawn instead of fitted."""
    windows = windows_of(views_of(scene(32, height=36, width=48)))
    normal = learn_normal([measure(each) for each in windows], keep_thumbnail=True)
    size = feature_count(len(normal.names)) + (POSE_FEATURES if normal.thumb is not None else 0)
    drawn = np.random.default_rng(0).normal(size=(4, size))
    found = Discriminant(drawn, np.arange(4), np.eye(size), np.zeros(4), 1.0)
    severities = np.zeros((len(FITTED), size + 1))
    model = CauseModel(normal, np.ones(size), found, 1e4, severities, (36, 48), False)
    document = Profile({"": model}).document() | {"reference": _reference()}
    loaded: dict[str, Any] = json.loads(json.dumps(document))
    return loaded


def drawn_profile() -> dict[str, Any]:
    """Return a profile's document, to be changed."""
    return copy.deepcopy(_profile())


def consistent_nonsense() -> dict[str, Any]:
    """Return a profile that agrees with itself: of one statistic fewer than this program measures."""
    model = Profile.from_document(_profile()).cameras[""]
    normal = model.normal
    fewer = replace(normal, names=normal.names[1:], centre=normal.centre[1:], spread=normal.spread[1:])
    size = len(model.scale) - 2
    found = Discriminant(np.zeros((4, size)), np.arange(4), np.eye(size), np.zeros(4), 1.0)
    severities = np.zeros((len(FITTED), size + 1))
    other = replace(model, normal=fewer, scale=np.ones(size), discriminant=found, severities=severities)
    return Profile({"": other}).document()


@functools.cache
def _reference() -> dict[str, Any]:
    classes = [str(number // 7 % 2) for number in range(80)]
    made = Reference.fit(stream(80, 0.5, 1), NAMES, vectors(80, 1), classes=classes).document()
    loaded: dict[str, Any] = json.loads(json.dumps(made))
    return loaded


def run_batch(seed: int, count: int = BATCH) -> Counter[str]:
    """Make and try mutations; return the outcomes by name.

    Raises:
        AssertionError: one of them had another outcome than it may; the message names seed and number.
    """
    dice = random.Random(seed)
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "x.profile")
        for number in range(count):
            try:
                outcomes[_one(path, dice)] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}, mutation {number}: {type(error).__name__}: {error}") from error
    return outcomes


def _one(path: Path, dice: random.Random) -> str:
    is_profile = dice.random() < 0.5
    what = "profile" if is_profile else "reference"
    document = copy.deepcopy(_profile() if is_profile else _reference())
    how = dice.random()
    if how < 0.8:
        for _ in range(dice.choice([1, 1, 2])):
            _change(document, dice)
    data = bytearray(json.dumps(document).encode())
    if how >= 0.8:
        place = dice.randrange(len(data))
        data[place : place + dice.choice([0, 1, 8])] = dice.randbytes(dice.choice([0, 1, 2]))
    path.write_bytes(data)
    try:
        loaded = Profile.load(path) if is_profile else load_reference(path)
    except ValueError as error:
        said = str(error)
        assert said and "\n" not in said and len(said) < 400, "no sentence"
        return f"{what} refused"
    if isinstance(loaded, Profile):
        answered = loaded.diagnose_views(_views())
        assert answered.cause in CAUSES and 0 <= answered.confidence <= 1
        json.dumps(answered.document(), allow_nan=False)
    else:
        _watched(loaded)
    return f"{what} answers"


def _watched(reference: Reference) -> None:
    for key in reference.streams:
        known = reference.of(key)
        assert known is not None
        watcher = Watcher(known, NAMES)
        for number, row in enumerate(stream(40, 0.5, 2, shift=6.0, since=20)):
            watcher.update(number, row, vectors(1, number)[0])
        for group in ("drift", "image_quality"):
            for rate in (reference.frames_per_false_alarm, 10**9):
                assert watcher.excess(group, rate) >= 0
                if known.tails.get(group) is not None:
                    watcher.alarm(group, rate)
        if known.answers is not None:
            known.answers.judge([(0.5, "0")] * 40, 1e-3)


def _change(document: dict[str, Any], dice: random.Random) -> None:
    """Walk down to some part, and make something else of it."""
    node: Any = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = dice.choice(keys)
        below = node[key]
        if isinstance(below, dict) and set(below) == {"shape", "data"} and dice.random() < 0.7:
            node[key] = _array(below, dice)
            return
        if not isinstance(below, dict | list) or not below or dice.random() < 0.1:
            break
        node = below
    if dice.random() < 0.2:
        del node[key]
    elif dice.random() < 0.1 and isinstance(node, dict):
        node[dice.choice(["x" * 300, "\x1b]0;a\x07", ""])] = below
    else:
        node[key] = copy.deepcopy(dice.choice(_WORDS))


def _array(packed: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    data = bytearray(base64.b64decode(packed["data"]))
    count = int(np.prod(packed["shape"]))
    if not count or len(data) % count:
        return packed
    size = len(data) // count
    number = dice.choice(_NUMBERS)
    with np.errstate(all="ignore"):
        kind = {1: "|u1", 4: "<f4", 8: "<f8"}[size]
        one = np.array([dice.randrange(256) if size == 1 else number]).astype(kind).tobytes()
    if dice.random() < 0.3:
        data = bytearray(one * count)
    else:
        place = dice.randrange(count) * size
        data[place : place + size] = one
    return {"shape": packed["shape"], "data": base64.b64encode(data).decode()}


def main() -> None:
    """Run a campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1_000)
    arguments = parser.parse_args()
    outcomes = Counter[str]()
    for batch in range(-(-arguments.count // BATCH)):
        outcomes += run_batch(arguments.seed + batch)
    print(dict(sorted(outcomes.items())))


if __name__ == "__main__":
    main()
