"""Portable numerics are held against a reference that the first replay leaves beside the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recorder.bundle.schema import validate
from replay.result import read_result, result_path, result_to_json, save_result
from replay.verdict import Level
from tests.replay.bundles_of_calls import Recording, images
from tests.replay.models_for_tests import classifier, counting


@pytest.fixture
def recorded(recording: Recording) -> Path:
    model = recording.attach(classifier())
    with torch.inference_mode():
        for batch in images(2):
            model(batch)
    return recording.write()


def test_the_second_portable_replay_is_bit_exact_against_the_first(recorded: Path, replayed: Any) -> None:
    """And says against what; a faithful replay that is saved in between keeps the reference."""
    first = replayed(recorded, "classifier", numerics="portable")
    assert first.portable_reference is not None and "portable reference" not in first.conclusion
    save_result(result_to_json(first), result_path(str(recorded)))
    save_result(result_to_json(replayed(recorded, "classifier")), result_path(str(recorded)))
    assert read_result(result_path(str(recorded)))["portable_reference"] is not None
    again = replayed(recorded, "classifier", numerics="portable", require="bit-exact")
    assert (again.verdict, again.exit_code) == (Level.BIT_EXACT, 0)
    assert "2 of 2 calls have the bits of the portable reference" in again.conclusion
    if first.verdict is not Level.BIT_EXACT:
        assert "bit-exact against the portable reference" in again.frames[0].reason
    assert again.portable_reference == first.portable_reference


def _damaged(data: dict[str, Any], how: str) -> bytes:
    reference = data["portable_reference"]
    match how:
        case "other bits":
            reference["calls"][0]["digest"] = "0" * 64
        case "other torch":
            reference |= {"torch": "1.0\x1b[31m", "calls": [{"call": 0, "digest": "0" * 64}]}
        case "other bundle":
            data["bundle"] = "ab" * 32
        case "no digest":
            reference["calls"][0]["digest"] = "../../etc/passwd"
        case "not json":
            return b"{" * 100_000
        case "a result without one":
            data["portable_reference"] = None
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("other bits", "1 of 2 calls have the bits of the portable reference"),
        ("other torch", "0 of 2 calls"),
        ("other bundle", "is the result of another bundle"),
        ("no digest", "was not used as a portable reference"),
        ("not json", "was not used as a portable reference"),
        ("a result without one", ""),
    ],
)
def test_a_foreign_or_hostile_result_file_makes_nothing_bit_exact(
    recorded: Path, replayed: Any, how: str, said: str
) -> None:
    """It is untrusted like a bundle: at worst a match is missed, and it is said why."""
    result = replayed(recorded, "classifier", numerics="portable", frames=frozenset({1, 2}))
    honest = result.verdict
    result_path(str(recorded)).write_bytes(_damaged(result_to_json(result), how))
    again = replayed(recorded, "classifier", numerics="portable")
    assert again.verdict is honest
    assert said in again.conclusion and "\x1b" not in repr(again)
    validate(result_to_json(again), "replay")


def test_an_answer_that_decides_otherwise_is_not_excused_by_being_portable(recording: Recording, replayed: Any) -> None:
    """The reference vouches for bits, not for what was recorded."""
    model = recording.attach(counting())
    model(torch.zeros(4))
    model(torch.zeros(4))
    path = recording.write()
    options = {"numerics": "portable", "frames": frozenset({2})}
    save_result(result_to_json(replayed(path, "counting", **options)), result_path(str(path)))
    again = replayed(path, "counting", **options)
    assert again.verdict is not Level.BIT_EXACT
