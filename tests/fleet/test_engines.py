"""Whoever replays, it is the same code; and what stays closed is counted, named and in nobody's way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyrage
import pytest

from replay.fleet.candidate import Candidate
from replay.fleet.engines import EngineMissing, local, on_ray
from replay.opening import Opening
from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay

__all__ = ["replay"]  # a fixture


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bundle whose model is nowhere, and one that is damaged: no worker has to start."""
    directory = tmp_path_factory.mktemp("incidents")
    (directory / "models").mkdir()
    whole = small_bundle(directory / "a.zst")
    (directory / "b.zst").write_bytes(whole.read_bytes()[:300])
    return directory


def cluster(died: type[Exception]) -> SimpleNamespace:
    """What is used of Ray, in this process; its third task dies with its node."""
    started: list[Any] = []

    def remote(**_: Any) -> Callable[[Any], SimpleNamespace]:
        def of(function: Any) -> SimpleNamespace:
            def begin(*words: Any) -> tuple[Any, Any]:
                started.append(words)
                return (function, words) if len(started) < 3 else (None, words)

            return SimpleNamespace(remote=begin)

        return of

    def get(task: Any) -> Any:
        function, words = task
        if function is None:
            raise died("the node is gone")
        return function(*words)

    return SimpleNamespace(
        init=lambda **_: None, shutdown=lambda: None, remote=remote, get=get,
        wait=lambda tasks, num_returns: (tasks[:num_returns], tasks[num_returns:]),
        exceptions=SimpleNamespace(RayError=died),
    )  # fmt: skip


def test_a_cluster_does_what_this_machine_does_and_outlives_a_node(sink: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", cluster(type("WorkerCrashedError", (Exception,), {})))
    locations = [str(sink / name) for name in ("a.zst", "b.zst")]
    here = dict(local(locations, Candidate(), Opening(), 2))
    there = dict(on_ray([*locations, "third"], Candidate(), Opening(), 1, None))
    third = there.pop("third")
    assert third["outcome"] == "cannot run" and third["reason"].startswith("WorkerCrashedError")
    assert [here[each] | {"seconds": 0} for each in locations] == [there[each] | {"seconds": 0} for each in locations]
    assert {each["outcome"] for each in here.values()} == {"cannot run", "unreadable"}


def test_without_ray_one_sentence_names_the_extra(
    sink: Path, tmp_path: Path, replay: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineMissing, match=r"pip install 'vision-flight-recorder\[fleet\]'"):
        next(on_ray([], Candidate(), Opening(), 1, None))
    done = replay("fleet", "run", str(sink), "--engine", "ray", "-o", str(tmp_path))
    assert done.code == 3 and len(done.err.strip().splitlines()) == 1 and "[fleet]" in done.err


def test_what_is_encrypted_opens_with_an_identity_and_is_named_without(sink: Path, tmp_path: Path, replay: Run) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{identity}\n")
    closed = tmp_path / "closed"
    (closed / "models").mkdir(parents=True)
    target = closed / "c.zst.age"
    assert replay("encrypt", str(sink / "a.zst"), "--to", str(identity.to_public()), "-o", str(target)).code == 0
    words = ("fleet", "run", str(closed), "-o", str(tmp_path / "out"), "--json")
    done = replay(*words)
    assert done.code == 3 and done.json()["outcomes"] == {"unreadable": 1}
    [line] = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert "--identity FILE" in json.loads(line)["reason"]
    again = replay(*words, "--identity", str(tmp_path / "key.txt"))
    assert again.json()["outcomes"] == {"cannot run": 1}, "it is open, and its model is nowhere"


def test_where_a_signature_is_asked_for_what_was_known_without_is_not_taken(
    sink: Path, tmp_path: Path, replay: Run
) -> None:
    words = ("fleet", "run", str(sink), "-o", str(tmp_path / "out"), "--json")
    assert replay(*words).json()["outcomes"] == {"cannot run": 1, "unreadable": 1}
    asked = replay(*words, "--require-signed")
    assert asked.code == 3 and asked.json()["outcomes"] == {"unreadable": 2}
    assert "a signature by" in (tmp_path / "out" / "results.jsonl").read_text()
