"""A reference is learnt from what is fit for it, refused otherwise, and survives a file and a forger."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.drift import Reference, Watcher
from recorder.drift.file import load_reference, save_reference
from recorder.drift.scores import Scores
from tests.drift.conftest import NAMES, stream, vectors


def spoilt(change: Callable[[np.ndarray[Any, Any]], Any]) -> np.ndarray[Any, Any]:
    signals = stream(120, 0.5, 3)
    changed = change(signals)
    return signals if changed is None else changed


@pytest.mark.parametrize(
    ("signals", "sentence"),
    [
        (stream(49, 0.5, 2), "at least 50"),
        (np.full((120, 5), 0.3), "never varies|no signal that varies"),
        (spoilt(lambda signals: signals.fill(np.nan)), "no signal that varies"),
        (spoilt(lambda signals: signals + np.outer(np.linspace(0, 1, 120), [1, 0, 0, 0, 0])), "itself drifting: lum"),
        (np.ones(5), "must be"),
        (np.full((120, 5), "x"), "rows of numbers"),
        ([[1.0], [1.0, 2.0]], "rows of numbers"),
        (stream(120, 0.5, 3) * 1e15, "beyond 1e\\+12"),
    ],
)
def test_what_is_no_reference_is_refused_in_one_sentence(signals: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Reference.fit(signals, NAMES)


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_said_to_be(missing: float) -> None:
    broken = vectors(120, 3)
    broken[40:] = missing
    with pytest.raises(ValueError, match="80 of 120 embeddings are missing or not finite"):
        Reference.fit(stream(120, 0.5, 3), NAMES, broken)


def test_a_signal_that_is_constant_or_mostly_missing_is_left_out() -> None:
    signals = stream(120, 0.5, 3)
    signals[:, 1], signals[::3, 3] = 0.25, np.nan
    assert Reference.fit(signals, NAMES).streams[""].scores.names == ("luminance", "sharpness_x", "confidence")


def test_each_key_is_learnt_by_itself_and_the_short_ones_are_said_to_be_too_short() -> None:
    keys = ["left", "right"] * 60 + ["new"] * 20
    reference = Reference.fit(stream(140, 0.2, 4), NAMES, keys=keys)
    assert set(reference.streams) == {"left", "right"} and "at least 50" in reference.refused["new"]
    assert reference.of("new") is None and reference.of("left") is not None


def test_a_frame_that_begins_a_recording_follows_nothing() -> None:
    """Ten takes of fifty frames, each as light as it likes: the memory is that within a take."""
    takes = [stream(50, 0.0, seed, shift=8.0 * (seed % 2)) for seed in range(10)]
    joined = Reference.fit(np.concatenate(takes), NAMES, begins=range(0, 500, 50)).streams[""]
    assert joined.frames == 500 and joined.moments.memory[0] > 0.9 > joined.moments.memory[1]


def test_it_comes_back_from_a_file_as_it_was(reference: Reference, tmp_path: Path) -> None:
    save_reference(reference, tmp_path / "r.json")
    again = load_reference(tmp_path / "r.json")
    assert json.dumps(again.document()) == json.dumps(reference.document())
    watchers = [Watcher(each.streams[""], NAMES) for each in (reference, again)]
    for number, row in enumerate(stream(30, 0.5, 9)):
        for watcher in watchers:
            watcher.update(number, row, vectors(30, 9)[number])
    assert np.array_equal(watchers[0].statistics, watchers[1].statistics)
    assert (tmp_path / "r.json").stat().st_mode & 0o777 == 0o600


def test_scores_of_one_frame_are_those_of_many(reference: Reference) -> None:
    scores = reference.streams[""].scores
    signals, embeddings = stream(20, 0.5, 5)[:, scores.columns(NAMES)], vectors(20, 5)
    one = np.stack([scores.of_one(row, vector) for row, vector in zip(signals, embeddings, strict=True)])
    assert np.allclose(one, scores.of(signals, embeddings), atol=1e-9)
    for strange in (np.ones(3), np.full(16, np.nan), np.full(16, np.inf)):
        assert np.isnan(scores.of_one(signals[0], strange)[len(scores.names) :]).all()
    assert isinstance(scores, Scores) and len(scores.labels) == scores.size


FORGERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another version": lambda document: document.update(version=9),
    "no streams": lambda document: document.update(streams={}),
    "a rate that cannot be": lambda document: document.update(frames_per_false_alarm=3),
    "a name that is none": lambda document: first(document)["names"].__setitem__(0, "../x"),
    "parts that do not add up": lambda document: first(document)["parts"].__setitem__(0, ["image", 40]),
    "a huge shape": lambda document: first(document)["centre"].update(shape=[10**9]),
    "a negative size": lambda document: first(document)["centre"].update(shape=[-16]),
    "bytes that are cut": lambda document: first(document)["centre"].update(data="AAAA"),
    "not a number": lambda document: put(document, "mean", np.nan),
    "no spread": lambda document: put(document, "scale", 0.0),
    "a covariance that is none": lambda document: put(document, "whitening", -1.0),
    "tails missing": lambda document: first(document).pop("tails"),
    "answers beyond one": lambda document: first(document)["answers"].update(shares=[3.0, 1.0]),
    "a stream that is a list": lambda document: document.update(streams={"": []}),
}


def first(document: dict[str, Any]) -> dict[str, Any]:
    return document["streams"][""]  # type: ignore[no-any-return]


def put(document: dict[str, Any], name: str, value: float) -> None:
    import base64

    packed = first(document)["moments"][name]
    packed["data"] = base64.b64encode(np.full(math.prod(packed["shape"]), value, "<f8").tobytes()).decode()


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_reference_is_refused_in_one_sentence(forgery: str, reference: Reference, tmp_path: Path) -> None:
    document = copy.deepcopy(reference.document())
    FORGERIES[forgery](document)
    with pytest.raises(ValueError):
        Reference.from_document(document)
    (tmp_path / "forged.json").write_text(json.dumps(document))
    with pytest.raises(ValueError):
        load_reference(tmp_path / "forged.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_is_no_profile_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ValueError):
        load_reference(tmp_path / "p")
    with pytest.raises((OSError, ValueError)):
        load_reference(tmp_path)
