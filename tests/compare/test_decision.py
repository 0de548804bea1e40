"""Same decision or not, task by task."""

from __future__ import annotations

import numpy as np
import pytest

from replay.compare.comparison import Comparison, compare_answers
from replay.verdict import Level
from tests.compare.answers import answer


def _compare(a: object, b: object, **options: object) -> Comparison:
    return compare_answers(answer(a), answer(b), **options)  # type: ignore[arg-type]


LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 3.0]], dtype=np.float32)


def test_the_same_top_class_is_the_same_decision():
    """Classification, chosen from the shape."""
    comparison = _compare(LOGITS, LOGITS + np.float32([[0.1, 0, 0], [0, 0, 0.1]]))
    assert comparison.level is Level.SAME_DECISION
    assert comparison.task == "classification"
    assert comparison.first_difference.recorded["top1"] == [0, 2]
    assert comparison.first_difference.margin_over_delta == pytest.approx(10, rel=1e-3)


def test_another_top_class_diverges_with_both_decisions_shown():
    """The row that changed is the evidence."""
    other = LOGITS.copy()
    other[1] = [0.0, 3.5, 3.0]
    comparison = _compare(LOGITS, other)
    assert comparison.level is Level.DIVERGED
    difference = comparison.first_difference
    assert (difference.recorded["top1"], difference.replayed["top1"]) == ([2], [1])
    assert "row 1" in difference.what


def test_a_confidence_on_the_other_side_of_a_threshold_is_another_decision():
    """A service acts on thresholds; probabilities and logits are both understood."""
    p, q = np.array([[0.52, 0.48]], np.float32), np.array([[0.505, 0.495]], np.float32)
    assert _compare(p, q).level is Level.SAME_DECISION
    assert _compare(p, q, thresholds=[0.51]).level is Level.DIVERGED
    assert _compare(np.log(p), np.log(q), thresholds=[0.51]).level is Level.DIVERGED
    assert _compare(np.log(p), np.log(q), thresholds=[0.6]).level is Level.SAME_DECISION


def test_a_near_tie_shows_as_a_small_margin():
    """Below two, the difference could have flipped the class."""
    a, b = np.array([[1.0, 0.999, 0]], np.float32), np.array([[1.0, 0.9995, 0]], np.float32)
    assert _compare(a, b).first_difference.margin_over_delta == pytest.approx(2, rel=0.01)


def test_nan_logits_are_no_decision_unless_they_were_recorded():
    """A row that turned NaN is another answer."""
    broken = LOGITS.copy()
    broken[0] = np.nan
    assert _compare(LOGITS, broken).level is Level.DIVERGED
    assert _compare(broken, LOGITS).level is Level.DIVERGED
    shifted = broken.copy()
    shifted[1, 2] += 0.1
    assert _compare(broken, shifted).level is Level.SAME_DECISION


def test_another_float_type_can_still_be_the_same_decision():
    """float16 on the recording machine, float32 here."""
    comparison = _compare(LOGITS.astype(np.float16), LOGITS)
    assert comparison.level is Level.SAME_DECISION
    assert "float16 was recorded, float32 came back" in comparison.first_difference.what


def _boxes(count: int = 3) -> dict[str, np.ndarray]:
    corner = np.arange(count, dtype=np.float32)[:, None] * 150
    return {
        "boxes": np.concatenate([corner, corner, corner + 100, corner + 120], axis=1),
        "labels": np.arange(count) % 2 + 1,
        "scores": np.linspace(0.9, 0.6, count, dtype=np.float32),
    }


def test_boxes_that_moved_by_less_than_a_hundredth_are_the_same_detection():
    """Matching is by class and overlap, so another order is the same answer."""
    a, b = _boxes(), _boxes()
    b = {name: array[::-1].copy() for name, array in b.items()}
    b["boxes"] += np.float32(0.1)
    comparison = _compare([a], [b])
    assert comparison.level is Level.SAME_DECISION
    assert comparison.task == "detection"


@pytest.mark.parametrize("change", ["moved", "class", "count"])
def test_a_box_that_moved_changed_class_or_vanished_is_another_detection(change: str):
    """IoU below 0.99, another label, another number of survivors."""
    a, b = _boxes(), _boxes()
    if change == "moved":
        b["boxes"][1] += 2
    elif change == "class":
        b["labels"][1] += 5
        b["boxes"] += np.float32(0.01)
    else:
        b = {name: array[:2] for name, array in b.items()}
    assert _compare(a, b).level is Level.DIVERGED


def test_a_score_across_the_threshold_is_another_survivor():
    """The survivors of the service's threshold have to be the same."""
    a, b = _boxes(), _boxes()
    b["scores"] -= np.float32(0.01)
    assert _compare(a, b).level is Level.SAME_DECISION
    assert _compare(a, b, thresholds=[0.595]).level is Level.DIVERGED
    assert _compare(a, b, thresholds=[0.5]).first_difference.margin_over_delta == pytest.approx(10, rel=0.01)


def test_boxes_without_area_or_with_nan_match_only_themselves():
    """Degenerate boxes never divide by zero."""
    a, b = _boxes(), _boxes()
    for side in (a, b):
        side["boxes"][0] = [5, 5, 5, 5]
        side["boxes"][1] = np.nan
    b["scores"] += np.float32(0.01)
    assert _compare(a, b).level is Level.SAME_DECISION
    b["boxes"][0] = [6, 5, 6, 5]
    assert _compare(a, b).level is Level.DIVERGED


def test_masks_that_agree_on_999_of_1000_pixels_are_the_same_segmentation():
    """Pixels on a border are near-ties."""
    a = np.zeros((2, 3, 50, 50), dtype=np.float32)
    a[:, 1] = 1
    few, many = a.copy(), a.copy()
    few[1, 2, 0, :2] = 5
    many[1, 2, 0, :4] = 5
    assert _compare(a, few).level is Level.SAME_DECISION
    assert _compare(a, few).task == "segmentation"
    assert _compare(a, many).level is Level.DIVERGED


def test_a_mask_of_one_channel_is_decided_by_its_middle():
    """Zero for logits, one half for probabilities."""
    logits = np.full((1, 1, 4, 4), -0.2, dtype=np.float32)
    assert _compare(logits, logits + np.float32(0.1)).level is Level.SAME_DECISION
    assert _compare(logits, logits + np.float32(0.3)).level is Level.DIVERGED
    probabilities = np.full((1, 1, 4, 4), 0.3, dtype=np.float32)
    assert _compare(probabilities, probabilities + np.float32(0.1)).level is Level.SAME_DECISION
    assert _compare(probabilities, probabilities + np.float32(0.3)).level is Level.DIVERGED


def test_unit_vectors_are_compared_by_direction():
    """Rows of unit length with negative entries are embeddings."""
    rows = np.random.default_rng(3).standard_normal((4, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = rows + 1e-4
    comparison = _compare(rows, near)
    assert (comparison.level, comparison.task) == (Level.SAME_DECISION, "embedding")
    assert _compare(rows, rows[::-1].copy()).level is Level.DIVERGED
    assert _compare(np.abs(rows) * 9, np.abs(rows) * 10, task="embedding").level is Level.SAME_DECISION


def test_zero_and_non_finite_embeddings_match_only_themselves():
    """No direction, no agreement."""
    rows = np.eye(3, 4) * -1.0
    for bad in (0.0, np.nan, np.inf):
        other = rows.copy()
        other[1] = bad
        assert _compare(rows, other, task="embedding").level is Level.DIVERGED
        assert _compare(other, rows, task="embedding").level is Level.DIVERGED


def test_an_answer_without_a_known_task_diverges():
    """One-dimensional outputs, integers, and answers the caller declares to have none."""
    a = np.arange(5, dtype=np.float32)
    assert _compare(a, a + 1).level is Level.DIVERGED
    assert _compare(LOGITS, LOGITS * 2).level is Level.SAME_DECISION
    assert _compare(LOGITS, LOGITS * 2, task="none").level is Level.DIVERGED
    assert _compare(LOGITS, LOGITS * 2, task="segmentation").level is Level.DIVERGED
    assert _compare({"logits": LOGITS, "count": 3}, {"logits": LOGITS * 2, "count": 4}).level is Level.DIVERGED


def test_an_unknown_task_is_refused():
    """A typing mistake must not turn into a verdict."""
    with pytest.raises(ValueError, match="unknown task"):
        _compare(LOGITS, LOGITS * 2, task="classify")


def test_all_parts_of_an_answer_have_to_agree():
    """Two heads: one keeps its class, the other does not."""
    kept, flipped = LOGITS * np.float32(1.1), LOGITS[:, ::-1].copy()
    assert _compare([LOGITS, LOGITS], [kept, kept]).level is Level.SAME_DECISION
    comparison = _compare([LOGITS, LOGITS], [kept, flipped])
    assert comparison.level is Level.DIVERGED
    assert comparison.first_difference.where == "output[1]"
