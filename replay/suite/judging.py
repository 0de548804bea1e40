"""Whether what a candidate answered is what a case expects: expected, got, and what both rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from replay.compare.boxes import LEAST_SCORE, SAME_OBJECT_IOU, Boxes, match_boxes
from replay.compare.comparison import compare_answers
from replay.conclusion import reaches
from replay.suite.document import Case
from replay.suite.expectation import Expectation
from replay.suite.ground_truth import read_boxes
from replay.suite.seen import Seen, View

__all__ = ["Finding", "Varied", "judge_expectation"]

#: The answer with the frame's picture changed, per edit tried.
Varied = Callable[[Expectation], list[tuple[str, Seen]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One expectation held against one pass."""

    holds: bool | None  #: None: it cannot be told
    expected: str
    got: str
    evidence: str = ""  #: what the answer rests on, or why it cannot be told


def judge_expectation(expectation: Expectation, case: Case, seen: Seen, folder: Path, varied: Varied) -> Finding:
    """Hold one expectation against what was seen.

    Args:
        expectation: of the case.
        case: with the names of classes it knows.
        seen: one pass.
        folder: of the suite, for files of boxes.
        varied: runs the frame with its picture changed.
    """
    expected = expectation.text
    if seen.cannot:
        return Finding(holds=None, expected=expected, got="", evidence=seen.cannot)
    match expectation.kind:
        case "same-as-recorded":
            expected = "the recorded decision"
            return Finding(holds=seen.same, expected=expected, got=seen.text, evidence=seen.difference)
        case "no-failure":
            return _no_failure(seen)
    if seen.raised:
        return Finding(holds=False, expected=expected, got=seen.text)
    match expectation.kind:
        case "class" | "not":
            return _of_class(expectation, case, seen)
        case "confidence":
            return _of_confidence(expectation, seen)
        case "boxes":
            return _of_boxes(case, seen, folder)
    return _stable(expectation, seen, varied(expectation))


def _no_failure(seen: Seen) -> Finding:
    expected = "the incident's trigger does not fire"
    if seen.raised:
        return Finding(holds=False, expected=expected, got=seen.text)
    if seen.fails is None:
        why = "one answer cannot tell whether this trigger would fire; expect a class or a confidence instead"
        return Finding(holds=None, expected=expected, got=seen.text, evidence=why)
    got = f"it fires again: {seen.text}" if seen.fails else seen.text
    return Finding(holds=not seen.fails, expected=expected, got=got)


def _of_class(expectation: Expectation, case: Case, seen: Seen) -> Finding:
    """By index and by name, in the first answer that speaks that language."""
    wanted = _synonyms(expectation.name, case.classes)
    expected = ("not " if expectation.kind == "not" else "") + _named(expectation.name, case.classes)
    for view in seen.views:
        names = view.names
        numeric = {name.lstrip("-").isdigit() for name in names}
        if not numeric & {name.lstrip("-").isdigit() for name in wanted}:
            continue
        lacks = [name for name in wanted if name.isdigit() and view.classes is not None and int(name) >= view.classes]
        if lacks:
            why = f"this model has {view.classes} classes and none with the index {lacks[0]}; correct the expectation"
            return Finding(holds=None, expected=expected, got=seen.text, evidence=why)
        found = bool(wanted & names)
        got = " / ".join(sorted({_named(name, case.classes) for name in names}))
        evidence = f"confidence {view.confidence:.3f}" if view.confidence is not None else ""
        return Finding(holds=found == (expectation.kind == "class"), expected=expected, got=got, evidence=evidence)
    if any(view.names for view in seen.views):
        why = f"the answer has indices and nothing says which is {expectation.name!r}; add the case with --labels FILE"
    else:
        why = "this answer names no class; expect same-as-recorded, a confidence or boxes instead"
    return Finding(holds=None, expected=expected, got=seen.text, evidence=why)


def _synonyms(name: str, classes: Mapping[str, int]) -> frozenset[str]:
    same = {name}
    if name in classes:
        same.add(str(classes[name]))
    return frozenset(same | {known for known, index in classes.items() if str(index) == name})


def _named(name: str, classes: Mapping[str, int]) -> str:
    """``scratch (class 3)`` of either."""
    if name in classes:
        return f"{name} (class {classes[name]})"
    known = next((each for each, index in classes.items() if str(index) == name), None)
    return f"{known} (class {name})" if known is not None else f"class {name}" if name.isdigit() else name


def _of_confidence(expectation: Expectation, seen: Seen) -> Finding:
    expected = f"confidence {expectation.operator} {expectation.bound:g}"
    found = next((view.confidence for view in seen.views if view.confidence is not None), None)
    if found is None:
        why = "this answer has no confidence; expect a class or same-as-recorded instead"
        return Finding(holds=None, expected=expected, got=seen.text, evidence=why)
    holds = {
        ">=": found >= expectation.bound,
        ">": found > expectation.bound,
        "<=": found <= expectation.bound,
        "<": found < expectation.bound,
    }[expectation.operator]
    return Finding(holds=holds, expected=expected, got=f"{found:.4f}", evidence=seen.text)


def _of_boxes(case: Case, seen: Seen, folder: Path) -> Finding:
    found = next((boxes for view in seen.views if (boxes := view.boxes) is not None), None)
    try:
        wanted, overlap, least = read_boxes(folder / case.boxes_file)
    except ValueError as error:
        return Finding(holds=None, expected="boxes", got=seen.text, evidence=str(error))
    expected = f"{len(wanted)} boxes, each overlapped by {overlap:g} or more"
    if found is None:
        return Finding(holds=None, expected=expected, got=seen.text, evidence="this answer has no boxes and scores")
    found = found.above(least)
    unnamed = not np.any(wanted.labels >= 0)
    pairs = match_boxes(wanted, replace(found, labels=np.full(len(found), -1.0)) if unnamed else found, overlap)
    missed, extra = len(wanted) - len(pairs), len(found) - len(pairs)
    got = f"{len(pairs)} found, {missed} missed, {extra} not expected"
    where = [_corners(wanted, index) for index in range(len(wanted)) if index not in {i for i, _ in pairs}]
    where += [f"extra {_corners(found, i)}" for i in range(len(found)) if i not in {j for _, j in pairs}]
    return Finding(holds=not missed and not extra, expected=expected, got=got, evidence="; ".join(where[:6]))


def _corners(boxes: Boxes, index: int) -> str:
    corners = ", ".join(f"{value:.0f}" for value in boxes.corners[index])
    return f"[{corners}]" + (f" label {boxes.labels[index]:.0f}" if boxes.labels[index] >= 0 else "")


def _stable(expectation: Expectation, seen: Seen, varied: list[tuple[str, Seen]]) -> Finding:
    """Is the prediction on every changed picture that on the picture as it was recorded?"""
    expected = f"the same prediction over {expectation.text.removeprefix('stable:')}"
    for change, other in varied:
        if other.cannot:
            return Finding(holds=None, expected=expected, got="", evidence=other.cannot)
        if other.raised or not _same_answer(seen, other):
            evidence = f"without the change {seen.text}"
            return Finding(holds=False, expected=expected, got=f"{other.text} at {change}", evidence=evidence)
    return Finding(holds=True, expected=expected, got=f"{seen.text} at each of {len(varied)}")


def _same_answer(seen: Seen, other: Seen) -> bool:
    """By the first answer that names a class or has boxes, the service's own before its model's; else by the first."""
    telling = (index for index, view in enumerate(seen.views) if view.names or view.boxes is not None)
    index = next(telling, 0)
    pair = seen.views[index : index + 1], other.views[index : index + 1]
    return all(pair) and _same_prediction(pair[0][0], pair[1][0])


def _same_prediction(a: View, b: View) -> bool:
    """The same boxes that overlap by half, the same class, else the same decision on the ladder."""
    boxes_a, boxes_b = a.boxes, b.boxes
    if boxes_a is not None and boxes_b is not None:
        x, y = boxes_a.above(LEAST_SCORE), boxes_b.above(LEAST_SCORE)
        return len(match_boxes(x, y, SAME_OBJECT_IOU)) == len(x) == len(y)
    if a.names and b.names:
        return a.names == b.names
    return reaches(compare_answers(a.answer, b.answer).level, "decision")
