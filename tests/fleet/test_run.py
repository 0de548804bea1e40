"""Many incidents against a candidate: what it fixes and breaks, whatever happens to single ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from recorder import FlightRecorder
from replay.fleet.candidate import Candidate
from replay.fleet.results import Results, headline
from replay.opening import Opening
from tests.cli.conftest import Run, replay
from tests.fleet import networks

__all__ = ["replay"]  # a fixture

FIXED, OTHER = "tests.fleet.networks:fixed", "tests.fleet.networks:other"


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One incident of each kind (the third was answered wrong), a damaged one, and one that is none."""
    directory = tmp_path_factory.mktemp("incidents")
    with FlightRecorder(
        sink=str(directory), pre_frames=1, post_frames=1, dedupe_seconds=0, max_bytes=2**25, overhead_budget=1
    ) as recorder:
        model = recorder.attach(networks.service(), name="kinds")
        for kind in range(3):
            with torch.no_grad(), recorder.frame(ground_truth=kind, camera=f"c{kind}"):
                model(torch.eye(3)[kind : kind + 1])
            assert recorder.trigger(f"kind {kind}").wait(120).path
            recorder.flush(60)
    bundles = sorted(directory.glob("*.zst"))
    assert len(bundles) == 3
    (directory / "z-damaged.zst").write_bytes(bundles[0].read_bytes()[:400])
    return directory


def test_it_says_what_a_candidate_fixes_and_newly_breaks(sink: Path, tmp_path: Path, replay: Run) -> None:
    done = replay("fleet", "run", str(sink), "--model", FIXED, "-o", str(tmp_path / "a"), "--jobs", "2", "--json")
    assert done.code == 3, done.err  # the damaged one
    told = done.json()
    assert told["headline"] == "fixes 1 of 1, newly breaks 0, 1 cannot be read"
    assert told["outcomes"] == {"fixed": 1, "still right": 2, "unreadable": 1}
    page = (tmp_path / "a" / "summary.html").read_text()
    assert "fixes 1 of 1" in page and "<script" not in page and "z-damaged" in page


def test_what_is_newly_wrong_is_named_and_decides_the_exit_code(sink: Path, tmp_path: Path, replay: Run) -> None:
    words = ("fleet", "run", str(sink), "--model", OTHER, "-o", str(tmp_path / "b"), "--parquet")
    done = replay(*words)
    assert done.code == 1 and "fixes 1 of 1, newly breaks 1" in done.out and "newly wrong" in done.out
    table = pyarrow.parquet.read_table(tmp_path / "b" / "results.parquet").to_pydict()
    assert sorted(table["outcome"]) == ["fixed", "newly wrong", "still right", "unreadable"]
    before = (tmp_path / "b" / "results.jsonl").read_text()
    again = replay(*words)
    assert again.code == 1 and "3 of 4 are known" in again.err  # the damaged one is looked at again
    assert (tmp_path / "b" / "results.jsonl").read_text().startswith(before)


def test_a_candidate_that_cannot_be_run_is_never_a_failure_of_the_incident(
    sink: Path, tmp_path: Path, replay: Run
) -> None:
    done = replay("fleet", "run", str(sink), "--model", "tests.fleet.networks:nowhere", "-o", str(tmp_path), "--json")
    assert done.code == 3 and done.json()["outcomes"] == {"cannot run": 3, "unreadable": 1}
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert all(line["reason"] for line in lines)


def test_results_survive_a_line_that_was_cut_off(sink: Path, tmp_path: Path) -> None:
    from replay.listing import bundles_of

    [first, *_] = bundles_of(str(sink))
    results = Results(tmp_path, "k")
    results.add(first, {"outcome": "fixed", "frames": {}})
    with results.path.open("ab") as file:
        file.write(b'{"candidate": "k", "loc')
    again = Results(tmp_path, "k")
    assert again.has(first) and not Results(tmp_path, "other").has(first)
    again.add(first, {"outcome": "still wrong", "frames": {}})
    assert Results(tmp_path, "k").known[first.location]["outcome"] == "still wrong"


def test_another_candidate_has_another_key(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    plain = Opening()
    key = Candidate(weights=str(weights)).key(plain)
    weights.write_bytes(b"two")
    two = Candidate(weights=str(weights))
    others = {two.key(plain), two.key(Opening(require_signed=True)), Candidate(model=("a:b",)).key(plain)}
    assert len({key, *others}) == 4


def test_the_headline_counts_what_is_asked_for() -> None:
    def of(*outcomes: str) -> str:
        return headline({str(number): {"outcome": outcome} for number, outcome in enumerate(outcomes)})

    assert of("reproduced", "diverged") == "reproduces 1 of 2"
    assert of("changed", "unchanged", "unchanged") == "changes 1 of 3"
    assert of("fixed", "still wrong", "newly wrong", "cannot run") == "fixes 1 of 2, newly breaks 1, 1 cannot be run"
    assert of() == "no incidents"
    thinned = {"outcome": "still right", "frames": {"still right": 3, "not judged": 2}}
    assert headline({"a": thinned, "b": thinned}) == "fixes 0 of 0, newly breaks 0, 4 frames not judged (thinned)"


@pytest.mark.soak
def test_fifty_of_ten_thousand_that_are_damaged_are_counted_and_named(sink: Path, tmp_path: Path, replay: Run) -> None:
    """By copies of four: reading them is what is tried, the candidate needs no model that runs."""
    many = tmp_path / "many"
    many.mkdir()
    bundles = sorted(sink.glob("2*.zst"))
    for number in range(9_950):
        (many / f"{number:05}.zst").hardlink_to(bundles[number % 3])
    for number in range(50):
        shutil.copy(sink / "z-damaged.zst", many / f"x{number:02}.zst")
    (many / "models").mkdir()  # empty: no worker has to start
    done = replay("fleet", "run", str(many), "-o", str(tmp_path / "out"), "--json")
    assert done.code == 3 and done.json()["outcomes"] == {"cannot run": 9_950, "unreadable": 50}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--set", "nonsense=1"], "nonsense"),
        (["--engine", "magic"], "magic"),
    ],
)
def test_wrong_arguments_get_one_sentence(sink: Path, tmp_path: Path, replay: Run, words: list[str], says: str) -> None:
    done = replay("fleet", "run", str(sink), "-o", str(tmp_path), *words)
    assert done.code == 2 and says in done.err and "Traceback" not in done.err


def test_a_ray_cluster_of_two_workers_says_the_same(sink: Path, tmp_path: Path) -> None:
    """In a process of its own: what Ray leaves in one is not ours to clean up."""
    words = ["fleet", "run", sink, "--model", FIXED, "--engine", "ray", "--jobs", "2", "-o", tmp_path, "--json"]
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # its sockets want a short path
        ours = {"PYTHONPATH": str(Path(__file__).parents[2]), "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": scratch}
        done = subprocess.run(
            [sys.executable, "-m", "replay", *map(str, words)],
            env=os.environ | ours,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["outcomes"] == {"fixed": 1, "still right": 2, "unreadable": 1}


def test_a_pipeline_is_judged_as_any_other_candidate() -> None:
    """By truth and trigger (tests/pipeline/test_whatif.py), and not held against the recording."""
    changes = Candidate(pipeline="service:predict").options("incident.zst").changes
    assert changes and changes.texts == ("pipeline=service:predict",)
    assert not Candidate().options("incident.zst").changes
