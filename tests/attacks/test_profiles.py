"""Profiles and references are untrusted: damage by chance and on purpose, each a sentence or an answer."""

from __future__ import annotations

import json
import os
import resource
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from recorder.drift.file import MAX_FILE_BYTES, load_reference
from recorder.profile import Profile
from tests.attacks.profile_mutations import BATCH, consistent_nonsense, drawn_profile, run_batch
from tests.cause.conftest import scene
from tests.cause.test_whole_way import bundle_of
from tests.cli.conftest import Run, assert_one_sentence, replay

__all__ = ["replay"]  # a fixture


@pytest.mark.parametrize("seed", range(2))
def test_a_hundred_mutations_are_refused_or_answer(seed: int) -> None:
    """Of a profile that is asked for a cause, and of a reference that watches a stream."""
    outcomes = run_batch(seed)
    assert outcomes.total() == BATCH
    assert outcomes["profile refused"] > 10 and outcomes["reference refused"] > 10


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_a_hundred_thousand_mutations(part: int) -> None:
    """In ten parts, so that one can be run alone; memory does not grow with them."""
    outcomes = run_batch(1_000 * (part + 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(1_000 * (part + 1) + 1, 1_000 * (part + 1) + 100):
        outcomes += run_batch(seed)
    print(f"part {part}: {dict(sorted(Counter(outcomes).items()))}")
    assert outcomes.total() == 100 * BATCH
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 2**10


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 100_000, "not JSON"),
        (b"[" * 2**19, "parts"),
        (b'{"a":[' + b"[]," * 2**20 + b"0]}", "parts"),
        (b'{"a":' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b" " * (MAX_FILE_BYTES + 1), "at most"),
        (b"", "not JSON"),
    ],
    ids=["deep", "deeper", "many", "long-number", "nan", "no-text", "large", "empty"],
)
def test_a_file_that_would_take_memory_or_time_is_refused_before(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.profile").write_bytes(content)
    for load in (Profile.load, load_reference):
        with pytest.raises(ValueError, match=says):
            load(tmp_path / "x.profile")


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.profile")
    with pytest.raises(ValueError, match="is a file"):
        Profile.load(tmp_path / "x.profile")


def test_the_commands_say_one_sentence(tmp_path: Path, replay: Run) -> None:
    """Whatever is named as a profile: damaged, no file, or one whose parts agree with each other and nothing else."""
    bundle = bundle_of(tmp_path / "a.zst", scene(16, height=36, width=48))
    (tmp_path / "nonsense.profile").write_text(json.dumps(consistent_nonsense()))
    (tmp_path / "damaged.profile").write_bytes(b"{" + np.random.default_rng(0).bytes(200))
    done = replay("diagnose", bundle, "--profile", tmp_path / "nonsense.profile")
    assert done.code == 3 and done.out.startswith("unknown: ") and "make it again" in done.out
    for name, code in (("damaged", 4), ("missing", 2)):
        done = replay("diagnose", bundle, "--profile", tmp_path / f"{name}.profile")
        assert done.code == code
        assert_one_sentence(done.err)
    for words in (["profile", "show", tmp_path / "damaged.profile"], ["profile", "show", tmp_path]):
        done = replay(*words)
        assert done.code in (2, 4)
        assert_one_sentence(done.err)


def test_a_camera_named_to_attack_is_shown_inert(tmp_path: Path, replay: Run) -> None:
    document = drawn_profile()
    document["cameras"] = {"\x1b]0;owned\x07<script>": document["cameras"][""]}
    document["refused"] = {"\x1b[2J": "\x1b[31mwhy"}
    (tmp_path / "x.profile").write_text(json.dumps(document))
    shown = replay("profile", "show", tmp_path / "x.profile")
    assert shown.code == 0 and "\x1b" not in shown.out + shown.err and "owned" not in shown.out
