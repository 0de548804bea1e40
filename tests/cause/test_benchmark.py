"""The benchmark's page is made of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import causes_page
from benchmarks.causes_page import summarise, upper_bound
from benchmarks.imagenet_c import IMAGENET_C
from recorder.cause.vocabulary import CAUSES


def _answers() -> list[list[Any]]:
    rows: list[list[Any]] = []
    for unit in ("incident", "window"):
        rows += [["darker", "own", 3, unit, "darker", 0.9], ["fog", "own", 4, unit, "defocus", 0.6]]
        rows += [["rain", "own", 1, unit, "none", 0.7], ["none", "clean", 0, unit, "none", 1.0]]
        rows += [["none", "clean", 0, unit, "occlusion", 0.8], ["unknown", "waved", 0, unit, "unknown", 0.7]]
        rows += [["rain", "albumentations: rain", 1, unit, "rain", 0.7]]
    rows += [
        ["fog", "ImageNet-C: fog", 4, "incident", "fog", 0.7],
        ["noise", "ImageNet-C: shot_noise", 1, "incident", "none", 1],
    ]
    rows += [["unknown", "ImageNet-C: frost", 2, "incident", "snow", 0.7]]
    return rows


def test_shares_are_of_what_they_say() -> None:
    """Severe and mild apart, corruptions by others not among them; unknown is no misnaming."""
    found = summarise(_answers(), "incident")
    assert (found["severe"], found["severe_count"], found["mild"]) == (0.5, 2, 0.0)
    assert (found["clean"], found["clean_misnamed"], found["unknown"], found["foreign"]) == (2, 1, 1.0, 1.0)
    assert found["misnamed"] == pytest.approx(1 / 3)
    assert found["unknown_count"] == 1


def test_the_bound_is_wilsons() -> None:
    """No failure among 500 is below 0.54 %; half of them are not much more than half."""
    assert upper_bound(0, 500) == pytest.approx(0.00538, abs=1e-4)
    assert upper_bound(250, 500) == pytest.approx(0.5367, abs=1e-3)


def test_the_page_holds_every_table_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the template is left open."""
    monkeypatch.setattr(causes_page, "DOCS", tmp_path)
    result = {"clip": "debian:vtest.avi", "answers": _answers(), "fixed": True, "fit_seconds": 20.0}
    causes_page.write([{**result, "reducing_ms": 1.0, "looking_ms": 2.0}])
    page = (tmp_path / "causes.md").read_text()
    assert "{" not in page
    assert "50.00%" in page and "Expected calibration error" in page
    assert "100.0% of 1 right at severity 3 and up, 0.0% of 1 at 1 and 2" in page
    assert "| frost | unknown | 0/0 | 0/1 | 0/0 | 0/0 | 0/0 | snow 1 |" in page
    ElementTree.fromstring((tmp_path / "causes.svg").read_text())  # just written


def test_what_the_fields_set_makes_has_a_name_of_ours() -> None:
    """Each of its nineteen corruptions is a cause of the vocabulary, or unknown."""
    assert len(IMAGENET_C) == 19
    assert {cause for cause, _ in IMAGENET_C.values()} <= set(CAUSES)
