"""A diagnosis is said in one phrase and a few lines, whatever stands in it."""

from __future__ import annotations

from typing import Any

import pytest

from replay.show.cause import cause_details, cause_headline
from replay.show.text import inert

DARK: dict[str, Any] = {
    "cause": "darker",
    "confidence": 0.97,
    "ranking": [["darker", 0.97], ["fog", 0.02]],
    "evidence": {
        "severity": 1.4,
        "unit": "stops",
        "signals": [["luminance", -9.14]],
        "pose": {"right_px": -14.2, "down_px": 0.4, "degrees": 0.1, "fit": 0.9},
    },
}


def test_cause_strength_confidence_rivals_and_signals_are_said() -> None:
    assert cause_headline(DARK, inert) == "darker, 1.4 stops, confidence 0.97"
    assert cause_details(DARK, inert) == [
        "else fog 0.02",
        "by luminance -9.1 sigma",
        "the scene stands -14 px across, +0 px down, turned by +0.1°",
    ]
    assert cause_headline(None, inert) == "not diagnosed" and cause_details(None, inert) == []


def test_why_nothing_could_be_said_is_said() -> None:
    unknown = {"cause": "unknown", "confidence": 0.0, "ranking": [], "evidence": {"reason": "another model"}}
    assert cause_details(unknown, inert) == ["another model"]


@pytest.mark.parametrize(
    "hostile",
    [
        {"cause": "\x1b[31mred", "confidence": "sure", "ranking": 7, "evidence": []},
        {"ranking": [[1, 2], ["a", None], "x", ["b", float("nan")]], "evidence": {"signals": {"a": 1}, "pose": 3}},
        {
            "cause": None,
            "confidence": float("inf"),
            "evidence": {"severity": True, "unit": 5, "pose": {"degrees": "x"}},
        },
    ],
)
def test_what_is_not_of_the_form_is_left_out(hostile: dict[str, Any]) -> None:
    assert "\x1b" not in cause_headline(hostile, inert)
    assert cause_details(hostile, inert) == []
