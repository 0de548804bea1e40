"""A truth that is a name is held against what the model calls that class, and never against its index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from recorder.bundle import Bundle
from recorder.bundle.manifest import Frame, Manifest, Trigger
from recorder.bundle.values import MappingValue, ScalarValue, SequenceValue, Value
from replay.class_names import ClassNames, names_for
from replay.compare.comparison import Answer
from replay.compare.layout import Array
from replay.compare.reading import Reading
from replay.probe.calibration import calibration
from replay.probe.cases import sureness_of
from replay.probe.confirming import confirm
from replay.verdict import Level
from replay.whatif import Judge, Side
from tests.bundles import small_bundle

NAMES = ClassNames({"ok": 0, "scratch": 1})


class Sees:
    """Says class 1 of what is bright, and class 0 of what is dark."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames

    def pixels(self, frame: Frame) -> Array:
        return np.full((8, 8, 3), 40 if frame.id % 2 else 200, np.uint8)

    def ask(self, frame: Frame, variants: Sequence[Array]) -> Iterator[Reading]:
        for pixels in variants:
            winner = int(pixels.mean() > 128)
            yield Reading(task="classification", label=f"class {winner}", confidence=0.9, winner=winner)

    def recorded(self, frame: Frame) -> Reading:
        return next(self.ask(frame, [self.pixels(frame)]))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    with Bundle.open(small_bundle(tmp_path / "one.zst")) as bundle:
        found = bundle.manifest
    frame = found.frames[0]
    frames = tuple(
        replace(frame, id=number, metadata={"ground_truth": "ok" if number % 2 else "scratch"}) for number in range(24)
    )
    return replace(found, frames=frames)


def test_a_calibration_by_names_counts_what_is_right_and_nothing_where_nobody_knows_them(manifest: Manifest) -> None:
    subject = Sees(manifest.frames)
    found = calibration(list(sureness_of(subject, "ground_truth", NAMES)))
    assert found.evidence["accuracy"] == 1.0 and found.evidence["frames"] == 24
    nameless = calibration(list(sureness_of(subject, "ground_truth", ClassNames({}))))
    assert nameless.passed is None and "--labels FILE" in nameless.sentence and "ece" not in nameless.evidence


def test_a_cause_is_judged_by_names_too(manifest: Manifest) -> None:
    """All were bright; those since frame 12 are answered wrong, because they are dark."""
    trigger = Trigger(kind="when", reason="", frame=12, time_ns=0)
    frames = tuple(
        replace(frame, id=2 * number + (number >= 12), metadata={"ground_truth": "scratch"})
        for number, frame in enumerate(manifest.frames[:16])
    )
    incident = replace(manifest.incident, triggers=(replace(trigger, frame=25),))
    known = replace(manifest, frames=frames, incident=incident)
    finding = confirm(Sees(frames), known, "darker", {"severity": 2.5}, frames[:12], frames[12:], names=NAMES)
    assert finding.passed is True and "truth" in str(finding.evidence["judged_by"])
    assert finding.evidence["recovered"] == 1.0


def test_a_change_is_judged_by_names_and_else_by_the_trigger(manifest: Manifest) -> None:
    def change(names: ClassNames, then: object, now: object) -> str:
        sides = [Side(answer=Answer(value=ScalarValue(value=each), tensors={})) for each in (then, now)]
        judge = Judge(replace(manifest, incident=replace(manifest.incident, triggers=())), "ground_truth", names)
        return judge.change(manifest.frames[0], sides[0], sides[1], Level.DIVERGED).outcome

    assert change(NAMES, 0, 1) == "fixed" and change(NAMES, 1, 0) == "newly wrong"
    assert change(NAMES, "ok", "scratch") == change(ClassNames({}), "ok", "scratch") == "fixed"
    assert change(ClassNames({}), 0, 1) == "changed", "nobody knows which class is a scratch"


def test_a_service_that_calls_two_classes_by_one_name_tells_neither(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unsure answer that is called "unknown" is no name of the class that scored best."""
    said = iter([("ok", "0"), ("unknown", "1"), ("unknown", "0"), ("scratch", "2")] * 6)

    def answers(*_: object) -> list[SimpleNamespace]:
        return [SimpleNamespace(names=frozenset({name})) for name in next(said)]

    monkeypatch.setattr("replay.class_names.answers_of", answers)
    frames = tuple(replace(frame, output=ScalarValue(value=0)) for frame in manifest.frames)
    found = names_for(SimpleNamespace(manifest=replace(manifest, frames=frames)), "ground_truth")
    assert list(found) == [2] and found.text(2) == "scratch"
    assert NAMES.says({"1"}, "scratch") is True and NAMES.says({"ok"}, 1) is False
    assert NAMES.says({"1"}, "dent") is None and NAMES.says({"dent"}, "scratch") is False
    assert NAMES.says(frozenset(), "scratch") is None


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"label": 3, "count": 1}, {"3"}),
        ({"label": "ok", "number": 1, "camera": "line-3"}, {"ok"}),
        ({"labels": [3, 5], "frame": 1}, {"3", "5"}),
        ({"answer": "ok", "boxes": 1}, {"ok"}),
        ({"index": 3}, {"3"}),
        ({"index": 3, "count": 1}, set()),
        ({"sure": True}, set()),
    ],
)
def test_a_count_beside_the_class_is_no_class(fields: dict[str, object], names: set[str]) -> None:
    def value(plain: object) -> Value:
        if isinstance(plain, list):
            return SequenceValue(form="list", items=tuple(map(value, plain)))
        return ScalarValue(value=plain)  # type: ignore[arg-type]

    answer = MappingValue(items=tuple((name, value(each)) for name, each in fields.items()))
    assert Side(answer=Answer(value=answer, tensors={})).names == names
