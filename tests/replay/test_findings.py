"""What is saved beside a bundle: one file that verdicts and findings share, and what makes a finding void."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from recorder.bundle import Bundle, strictjson
from recorder.bundle.errors import BundleInvalid, BundleUnavailable
from recorder.bundle.schema import load_schema
from replay.findings import bisected, located, probed
from replay.result import read_result, result_path, save_findings, save_result
from tests.bundles import small_bundle
from tests.cli.conftest import Run, replay  # noqa: F401 - a fixture
from tests.report.findings import bisection, layer, location, result, save_everything

ID = "a" * 64


def finding(name: str, passed: bool) -> dict[str, Any]:
    said = {"sentence": "", "threshold": "", "proves": "", "does_not_prove": ""}
    return {"name": name, "passed": passed, "evidence": {"kept": 0.5}, **said}


def test_verdict_and_findings_stay_together_whatever_is_saved_last(tmp_path: Path) -> None:
    """A later replay keeps findings, and a later finding the verdict and the portable reference."""
    path = tmp_path / "x.replay.json"
    reference = {"torch": "2.13.0", "cpu": "x", "calls": [{"call": 1, "digest": "b" * 64}]}
    save_result({**result(ID), "portable_reference": reference}, path)
    save_findings(located(location()), ID, path)
    save_result(result(ID), path)
    save_findings(bisected(bisection()), ID, path)
    data = read_result(path)
    assert data["verdict"] == "diverged" and data["portable_reference"] == reference
    assert set(data["findings"]) == {"locate", "bisect"}
    Draft202012Validator(load_schema("replay")).validate(data)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_finding_gives_way_to_a_later_answer_to_its_question_only(tmp_path: Path) -> None:
    """`locate` by its two sides, `probe` by the test's name; the latest eight pairs of sides stay."""
    path = tmp_path / "x.replay.json"
    for number in range(10):
        save_findings(located(location(f"torch.num_threads={number}")), ID, path)
    save_findings(located(location("torch.num_threads=5", root="head")), ID, path)
    save_findings(probed([finding("batch", False), finding("scale", True)], "classification", [1]), ID, path)
    save_findings(probed([finding("batch", True)], "classification", [2]), ID, path)
    found = read_result(path)["findings"]
    assert [each["other"][-1] for each in found["locate"]] == ["2", "3", "4", "6", "7", "8", "9", "5"]
    assert found["locate"][-1]["calls"][0]["first_difference"]["path"] == "head"
    assert [(each["name"], each["passed"], each["frames"]) for each in found["probe"]] == [
        ("scale", True, [1]), ("batch", True, [2]),
    ]  # fmt: skip
    assert all(each["found"]["torch"] and each["found"]["time"].endswith("+00:00") for each in found["probe"])


@pytest.mark.parametrize("there", ["{", "[" * 5000, json.dumps({**result("b" * 64), "findings": {}}), "\x00"])
def test_what_is_of_another_bundle_or_unsound_is_void(there: str, tmp_path: Path) -> None:
    """It is not merged with: what is new stands alone."""
    path = tmp_path / "x.replay.json"
    path.write_text(there)
    save_findings(located(location()), ID, path)
    data = read_result(path)
    assert (data["bundle"], data["verdict"], list(data["findings"])) == (ID, None, ["locate"])


def test_a_pipe_in_the_place_of_a_result_keeps_nobody_waiting(tmp_path: Path) -> None:
    """It is refused when read, and gives way when something is saved."""
    path = tmp_path / "x.replay.json"
    os.mkfifo(path)
    with pytest.raises(BundleUnavailable, match="no regular file"):
        read_result(path)
    save_findings(located(location()), ID, path)
    assert read_result(path)["findings"]


def test_those_who_save_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each reads what the one before has written."""
    path = tmp_path / "x.replay.json"
    saves = [
        threading.Thread(target=save_findings, args=(probed([finding(f"p{n}", True)], "", [n]), ID, path))
        for n in range(8)
    ]
    for each in saves:
        each.start()
    for each in saves:
        each.join()
    assert {each["name"] for each in read_result(path)["findings"]["probe"]} == {f"p{n}" for n in range(8)}


def test_large_and_odd_findings_fit_the_schema(tmp_path: Path) -> None:
    """Layers around the root stay of a network of thousands, numbers that are none become null."""
    form = location()
    call = form["calls"][0]
    many = [layer(f"a.{n}", "Conv2d", 1e-3) for n in range(2_000)]
    call["layers"] = [*many, *call["layers"], *many]
    call["layers"][1_999]["rel_l2"] = math.inf
    form["calls"] = [{**call, "differs": False}] * 20 + [call]
    path = tmp_path / "x.replay.json"
    save_findings(located(form), ID, path)
    [saved] = read_result(path)["findings"]["locate"]
    assert saved["calls"][0]["differs"] and saved["calls_left_out"] == 5
    assert saved["calls"][0]["layers_left_out"] == len(call["layers"]) - 1998  # two operators in the root
    kept = {each["path"]: each["rel_l2"] for each in saved["calls"][0]["layers"]}
    assert "features.2.conv" in kept and kept["a.1999"] is None


def test_a_verdict_that_needs_the_room_displaces_the_oldest_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written can be read again."""
    path = tmp_path / "x.replay.json"
    for other in ("portable", "here"):
        save_findings(located(location(other)), ID, path)
    parts = path.read_text().count(",") + path.read_text().count("[") + path.read_text().count("{")
    monkeypatch.setattr(strictjson, "MAX_MANIFEST_NODES", parts + 50)
    frames = [{"id": n, "level": "bit-exact", "first_difference": None} for n in range(30)]
    save_result(result(ID, frames), path)
    data = read_result(path)
    assert len(data["frames"]) == 30 and [each["other"] for each in data["findings"]["locate"]] == ["here"]
    too_many = [{"id": n, "level": "bit-exact", "first_difference": None} for n in range(parts)]
    with pytest.raises(OSError, match="longer than can be read again; save fewer --frames"):
        save_result(result(ID, too_many), path)
    assert read_result(path) == data and [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "change",
    [
        {"findings": {"locate": [{}]}},
        {"findings": {"bisect": {"found": {}, "findings": []}}},
        {"findings": {"probe": [{"name": "x", "passed": "yes"}]}},
        {"findings": [1]},
        {"verdict": "certainly"},
        {"verdict": 0},
    ],
)
def test_findings_of_another_form_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """By the schema, before anything looks at them; jsonschema agrees."""
    path = tmp_path / "x.replay.json"
    path.write_text(json.dumps({**result(ID), **change}))
    with pytest.raises(BundleInvalid):
        read_result(path)
    assert not Draft202012Validator(load_schema("replay")).is_valid(json.loads(path.read_text()))


def test_findings_without_a_replay_are_no_verdict(tmp_path: Path, replay: Run) -> None:  # noqa: F811
    """`ticket`, `diff`, `report` and `export` read the file and say that nothing was replayed."""
    bundle = small_bundle(tmp_path / "incident.zst")
    with Bundle.open(bundle) as opened:
        bundle_id = opened.id
    saved = result_path(str(bundle))
    save_findings(located(location()), bundle_id, saved)
    assert "not replayed yet" in replay("ticket", bundle).out
    assert replay("show", bundle).code == 0
    page = tmp_path / "page.html"
    assert replay("report", bundle, "-o", page, "--json").json()["verdict"] is None
    assert "not replayed yet" in page.read_text("utf-8") and "first to differ" in page.read_text("utf-8")
    alone = tmp_path / "alone.replay.json"
    alone.write_bytes(saved.read_bytes())
    assert replay("diff", alone, saved).code == 0
    save_everything(bundle)
    assert replay("diff", alone, saved).code == 1
    assert "diverged" in replay("ticket", bundle).out
    assert replay("export", bundle, "--to", "parquet", "-o", tmp_path / "out").code == 0
