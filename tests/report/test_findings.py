"""What the page makes of saved findings, a stranger's too: rows of a tree, tables, and nothing but text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from recorder.bundle import Bundle
from replay.report.findings import found
from replay.report.lanes import columns_of
from replay.report.layers import count, tree
from replay.result import result_path
from tests.attacks.bundles import attack_bundle
from tests.bundles import small_bundle
from tests.report.conftest import Make
from tests.report.findings import bisection, layer, location, result, save_everything

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e{{7*7}}\"'><img src=x onerror=alert(1)>"


def test_the_tree_opens_on_the_way_to_the_root_and_folds_what_is_the_same() -> None:
    """Siblings that give the same share a row; an operator stands in the layer that computes it."""
    [top] = tree(location()["calls"][0])
    assert (top.name, top.error, top.is_open) == ("the model", "2.0e-02", True)
    features, head = top.children
    same, block, later = features.children
    assert (same.name, same.kind, same.error) == ("0 … 1", "2 layers", "same")
    assert (block.is_open, later.is_open, head.error) == (True, False, "other")
    [root, norm] = block.children
    assert (root.name, root.is_root, root.error, root.alone) == ("features.2.conv", True, "2.1e-07", "2.1e-07")
    assert [(each.name, each.is_root) for each in root.children] == [("conv2d", True)]
    assert (norm.alone, norm.is_root) == ("0", False)
    assert 0 < root.bar < later.bar < top.bar < 1


def test_layers_called_again_and_paths_without_end_stay_rows() -> None:
    """A second call is named; a path of a thousand parts is no tree of a thousand levels."""
    call = {**location()["calls"][0], "first_difference": None, "operators": []}
    deep = ".".join("a" * 500)
    call["layers"] = [layer("x", "Linear", 1e-3), layer("x", "Linear", 0.5, call_index=1), layer(deep, "Linear", 1e9)]
    rows = tree(call)
    assert count(rows) < 20
    [top] = rows
    assert [each.name for each in top.children][:2] == ["x", "x (call 2)"]


def test_a_page_has_room_for_so_many_rows_and_says_what_is_not_drawn(tmp_path: Path, make: Make) -> None:
    """A network of thousands of layers that all differ, several times over, stays below the limit of a page."""
    bundle = small_bundle(tmp_path / "incident.zst")
    form = location()
    form["calls"][0]["layers"] = [layer(f"a.{n}", "Conv2d", 1e-3) for n in range(1900)]
    about = {"time": "2026-01-01T00:00:00+00:00", "product": "x", "torch": "2", "cpu": "y"}
    saved = [{**form, "found": about, "other": f"side {n}"} for n in range(3)]
    with Bundle.open(bundle) as opened:
        data = {**result(opened.id), "findings": {"locate": saved}}
    result_path(str(bundle)).write_text(json.dumps(data))
    page = make(bundle)
    assert page.stat().st_size < 3_000_000
    assert page.read_text("utf-8").count("Its layers are not drawn") == 2


def test_hostile_findings_are_text(tmp_path: Path, make: Make) -> None:
    """Strings that attack, in every place a finding has one, make no element and no attribute."""
    bundle = small_bundle(tmp_path / "incident.zst")
    save_everything(bundle)
    path = result_path(str(bundle))
    honest = re.findall("<([a-z0-9]+)", make(bundle).read_text("utf-8"))

    def poisoned(node: Any, longest: int = 1000) -> Any:
        if isinstance(node, dict):
            return {name: poisoned(item, 40 if name == "found" else longest) for name, item in node.items()}
        if isinstance(node, list):
            return [poisoned(item, longest) for item in node]
        return HOSTILE[:longest] if isinstance(node, str) else node

    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "findings": poisoned(data["findings"])}))
    text = make(bundle).read_text("utf-8")
    assert "The saved result is not used" not in text
    assert "&lt;script&gt;alert(1)" in text and "\x1b" not in text and "\u202e" not in text
    assert set(re.findall("<([a-z0-9]+)", text)) <= {*honest}
    assert text.count("<script") == 1 and "onerror=alert(1)&gt;" in text


@pytest.mark.parametrize(
    "curve",
    [
        {"at": [], "kept": [], "confidence": []},
        {"at": [1, 2], "kept": [1], "confidence": [None, None]},
        {"at": [-1e308, 1e308], "kept": [0, 1], "confidence": [0, 1]},
        {"at": list(range(1000)), "kept": [0] * 1000, "confidence": [0] * 1000},
    ],
)
def test_curves_that_are_none_are_left_out(curve: dict[str, Any]) -> None:
    """Of unequal lengths, without an end, of more points than a probe has."""
    said = dict.fromkeys(("name", "sentence", "threshold", "proves", "does_not_prove", "task"), "")
    about = {"time": "", "product": "", "torch": "", "cpu": ""}
    evidence = {"curves": [{"name": "", "unit": "", **curve}]}
    probe = {**said, "passed": None, "frames": [], "found": about, "evidence": evidence}
    [shown] = found({"findings": {"probe": [probe]}}).probed
    assert shown.curves == () and shown.mark == "undecided"


def test_values_beyond_a_curves_axis_stay_inside_it() -> None:
    """A share is drawn between nothing and all."""
    curve = {"name": "n", "unit": "u", "at": [0, 1], "kept": [-7, 1e300], "confidence": [None, 2]}
    said = dict.fromkeys(("name", "sentence", "threshold", "proves", "does_not_prove", "task"), "")
    about = {"time": "", "product": "", "torch": "", "cpu": ""}
    probe = {**said, "passed": True, "frames": [1], "found": about, "evidence": {"curves": [curve]}}
    [drawn] = found({"findings": {"probe": [probe]}}).probed[0].curves
    assert drawn["kept"] == "M8 112 L312 8"


def test_the_setting_that_explains_comes_first() -> None:
    """What was not tried stands apart."""
    about = {"time": "2026-01-01T00:00:00+00:00", "product": "x", "torch": "2.13.0", "cpu": "y"}
    shown = found({"findings": {"bisect": {"found": about, "findings": bisection()}}}).bisected
    assert shown is not None
    assert shown.settings[0] == ("threads", "2", "1", "4 of 4 calls", True)
    assert [row[-1] for row in shown.settings] == [True, False]
    assert shown.skipped == (("mkldnn", "here as it was recorded"),)
    assert shown.conclusion == "threads: restoring only this gives the recorded bits"


def test_an_attack_bundle_and_hostile_findings_meet_on_one_page(tmp_path: Path, make: Make) -> None:
    """A page is made, whatever the two say."""
    bundle = tmp_path / "bundle.zst"
    bundle.write_bytes(attack_bundle("strings-in-everything"))
    save_everything(bundle)
    assert make(bundle).read_text("utf-8").count("<h1>") == 1


def test_frames_without_streams_keep_their_order() -> None:
    """No frame at all is no column."""
    assert columns_of([]) == {}
