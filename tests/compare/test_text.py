"""Text answers, and comparators of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from replay.comparators import RegisteredComparator, registered_comparators
from replay.compare.comparison import compare_answers
from replay.verdict import Level
from tests.compare.answers import answer
from tests.replay.bundles_of_calls import Recording
from tests.replay.conftest import recording, replayed  # noqa: F401 - fixtures
from tests.replay.models_for_tests import counting


def test_a_text_that_reads_the_same_is_the_same_decision() -> None:
    """Composed and decomposed letters, and white space."""
    found = compare_answers(answer({"plate": "B\u00c4 12  34"}), answer({"plate": "BA\u0308 12 34\n"}))
    assert (found.level, found.task) == (Level.SAME_DECISION, "text")


def test_a_text_that_reads_otherwise_has_diverged_and_the_change_is_counted() -> None:
    found = compare_answers(answer(["B-12 34", 0.5]), answer(["B-17 34", 0.5]))
    assert (found.level, found.task) == (Level.DIVERGED, "text")
    difference = found.first_difference
    assert difference is not None and "about 1 of 7 characters" in difference.what
    assert (difference.recorded, difference.replayed) == ("B-12 34", "B-17 34")


def test_scores_of_tokens_are_read_as_a_greedy_decoder_reads_them() -> None:
    """Only when asked: three axes may be anything."""
    scores = np.zeros((1, 5, 7), np.float32)
    scores[0, range(5), [1, 2, 3, 4, 5]] = 2
    near = scores + np.float32(0.1) * np.random.default_rng(0).standard_normal(scores.shape).astype(np.float32)
    assert compare_answers(answer(scores), answer(near)).level is Level.DIVERGED
    same = compare_answers(answer(scores), answer(near), task="text")
    assert same.level is Level.SAME_DECISION
    assert same.first_difference is not None and same.first_difference.margin_over_delta > 2
    near[0, 2] = np.roll(near[0, 2], 1)
    other = compare_answers(answer(scores), answer(near), task="text")
    assert other.level is Level.DIVERGED and "1 of 5 tokens changed" in other.first_difference.what


def test_a_near_tie_within_tolerance_is_told() -> None:
    """The ladder's level stays, the evidence says that the class changed."""
    a = np.array([[1.0, 1.0 + 1e-7, 0.0]], np.float32)
    b = np.array([[1.0 + 2e-7, 1.0, 0.0]], np.float32)
    found = compare_answers(answer(a), answer(b))
    assert found.level is Level.WITHIN_TOLERANCE
    assert "the top class changed" in found.first_difference.what
    assert found.first_difference.margin_over_delta <= 2


COMPARATORS = """
import socket

def close(recorded, replayed, thresholds):
    gap = float((recorded - replayed).abs().max())
    return {"same": gap <= 1, "what": f"off by {gap:g} \\x1b[31m", "margin_over_delta": 1 / max(gap, 1e-9)}

def shapes(recorded, replayed, thresholds):
    return recorded.ndim == replayed.ndim

def broken(recorded, replayed, thresholds):
    raise KeyError("no such field")

def talkative(recorded, replayed, thresholds):
    socket.create_connection(("127.0.0.1", 9), timeout=1)
    return True

def vague(recorded, replayed, thresholds):
    return {"same": "perhaps"}
"""


@pytest.fixture
def comparators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that registers some, installed in a directory of its own."""
    place = tmp_path / "site"
    info = place / "meters-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "meters_comparators.py").write_text(COMPARATORS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: meters\nVersion: 1.0\n")
    names = ("close", "shapes", "broken", "talkative", "vague")
    lines = [f"{name} = meters_comparators:{name}" for name in names] + ["text = meters_comparators:close"]
    (info / "entry_points.txt").write_text("[vision_flight_recorder.comparators]\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr("site.getsitepackages", lambda: [str(place)])
    monkeypatch.syspath_prepend(str(place))
    yield place


def test_a_registered_comparator_decides(comparators: Path) -> None:
    """In a worker that can neither write nor reach the network; what it says is made inert."""
    assert set(registered_comparators()) == {"close", "shapes", "broken", "talkative", "vague"}, "built-in names stay"
    with RegisteredComparator("close") as close:
        near = compare_answers(answer(np.zeros(3)), answer(np.ones(3)), comparator=close)
        far = compare_answers(answer(np.zeros(3)), answer(np.full(3, 4.0)), comparator=close)
    assert (near.level, near.task) == (Level.SAME_DECISION, "close")
    assert near.first_difference.what == "3 of 3 elements differ; close: off by 1"
    assert (far.level, far.first_difference.margin_over_delta) == (Level.DIVERGED, 0.25)
    with RegisteredComparator("shapes") as shapes:
        other = compare_answers(answer(np.zeros(3)), answer(np.zeros(4)), comparator=shapes)
    assert other.level is Level.SAME_DECISION, "it may judge other shapes too"


@pytest.mark.parametrize(
    ("name", "said"), [("broken", "KeyError"), ("talkative", "reach the network"), ("vague", "did not say")]
)
def test_a_comparator_that_fails_leaves_the_verdict_open(
    recording: Recording,  # noqa: F811
    replayed: Any,  # noqa: F811
    comparators: Path,
    name: str,
    said: str,
) -> None:
    """Exit code 3 and the reason, never a verdict that nobody reached."""
    model = recording.attach(counting())
    model(torch.zeros(4))
    model(torch.zeros(4))
    result = replayed(recording.write(), "counting", frames=frozenset({2}), task=name)
    assert (result.verdict, result.exit_code) == (Level.INCONCLUSIVE, 3)
    assert said in result.frames[0].reason


def test_an_unknown_task_lists_what_there_is(recording: Recording, replayed: Any, comparators: Path) -> None:  # noqa: F811
    recording.attach(counting())(torch.zeros(4))
    with pytest.raises(ValueError, match=r"^--task is one of classification, .* none, broken, close, .*, not 'x'"):
        replayed(recording.write(), "counting", task="x")
