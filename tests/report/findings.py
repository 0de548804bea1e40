"""A bundle of three cameras with a cause, and findings of every kind saved beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorder.bundle import Bundle, Manifest
from replay.findings import bisected, located, probed
from replay.result import result_path, save_findings, save_result
from tests.bundles import small_bundle
from tests.cli.conftest import rewrite

__all__ = ["CAMERAS", "bisection", "layer", "location", "result", "save_everything", "with_streams"]

CAMERAS = ("line-3", "line-1", "line-2, above the gate")

CAUSE = {
    "cause": "darker",
    "confidence": 0.97,
    "ranking": [["darker", 0.97], ["low-contrast", 0.02], ["fog", 0.01]],
    "evidence": {"severity": 1.4, "unit": "stops", "signals": [["luminance", -8.2], ["contrast", -3.1]]},
}


def with_streams(folder: Path) -> Path:
    """Write a bundle whose frames are in turn of three cameras; the third sees every second moment only."""
    source = small_bundle(folder / "one.zst", frames=30, height=96, width=128)

    def change(manifest: Manifest) -> Manifest:
        begin, frames = manifest.frames[0].time_ns, []
        for number, frame in enumerate(manifest.frames):
            camera, moment = number % 3, number // 3
            time_ns = begin + moment * (66_000_000 if camera == 2 else 33_000_000) + camera * 1_000_000
            frames.append(replace(frame, stream=CAMERAS[camera], time_ns=time_ns))
        alarm = frames[27].id  # of the first camera: the last but two
        triggers = tuple(replace(trigger, frame=alarm) for trigger in manifest.incident.triggers)
        incident = replace(manifest.incident, stream=CAMERAS[0], cause=CAUSE, triggers=triggers)
        return replace(manifest, frames=tuple(frames), incident=incident)

    return rewrite(source, folder / "incident.zst", change)


def layer(path: str, kind: str, rel_l2: float | None, **more: Any) -> dict[str, Any]:
    """One layer as `replay locate --json` has it; 0: it gives the same."""
    return {
        "path": path, "operator": None, "call_index": 0, "kind": kind, "is_leaf": True, "inputs_match": rel_l2 == 0,
        "outputs_match": rel_l2 == 0, "rel_l2": rel_l2, "alone": None, "weights": [], **more,
    }  # fmt: skip


def location(other: str = "portable", root: str = "features.2.conv") -> dict[str, Any]:
    """What `replay locate --json` prints of a small network."""
    layers = [layer("features.0", "Conv2d", 0), layer("features.1", "ReLU", 0)]
    layers += [layer(root, "Conv2d", 2.1e-7, inputs_match=True, alone={"rel_l2": 2.1e-7, "max_abs": 1e-6})]
    layers += [layer("features.2.norm", "BatchNorm2d", 3.0e-7, alone={"rel_l2": 0.0, "max_abs": 0.0})]
    layers += [
        layer("features.2", "Block", 3.0e-7),
        layer("features.3.0", "Conv2d", 5e-5),
        layer("features.3", "Block", 4e-4),
    ]
    layers += [layer("features", "Sequential", 4e-4), layer("head", "Linear", None), layer("", "Net", 0.02)]
    operators = [
        layer(root, "Conv2d", 2.1e-7),
        layer(root, "aten.conv2d.default", 2.1e-7, operator="aten.conv2d.default"),
    ]
    first = {
        "path": root, "kind": "Conv2d", "call_index": 0, "operator": "aten.conv2d.default", "before": None,
        "rel_l2": 2.1e-7, "weights_differ": [],
    }  # fmt: skip
    call = {
        "frames": [28], "call": 128, "model": "classifier", "differs": True, "first_difference": first,
        "structure": None,
        "conclusion": f"{root} (Conv2d) is the first to differ; its inputs are the same, its output is off by 2.1e-07",
        "layers": layers, "operators": operators, "reason": "",
    }  # fmt: skip
    conclusion = f"faithful against {other}: {call['conclusion']}"
    return {
        "bundle": "", "reference": "faithful", "other": other, "calls": [call], "not_restored": [],
        "conclusion": conclusion, "exit_code": 1,
    }  # fmt: skip


def bisection() -> list[dict[str, Any]]:
    """What `replay bisect --json` prints where the number of threads explains the bits."""

    def cell(restored: list[str], exact: int) -> dict[str, Any]:
        return {
            "restored": restored, "bit_exact": exact == 4, "calls": 4, "calls_bit_exact": exact, "changed_decisions": 0,
            "max_abs": None if exact == 4 else 7.6e-6, "rel_l2": None if exact == 4 else 2e-7,
            "margin_over_delta": None, "failed": None,
        }  # fmt: skip

    whole = {
        "outcome": "explained", "conclusion": "threads: restoring only this gives the recorded bits",
        "settings": ["threads"], "alternatives": [], "calls": 4, "not_restored": [], "without": None,
        "cells": [cell([], 0), cell(["gradient mode", "threads"], 4), cell(["threads"], 4), cell(["gradient mode"], 0)],
    }  # fmt: skip
    return [
        {"name": "explained", "passed": True, "evidence": whole},
        {"name": "gradient mode", "passed": True,
         "evidence": {"recorded": "inference mode", "here": "gradients on", "alone": cell(["gradient mode"], 0)}},
        {"name": "threads", "passed": False, "evidence": {"recorded": "2", "here": "1", "alone": cell(["threads"], 4)}},
        {"name": "mkldnn", "passed": True, "evidence": {"skipped": "here as it was recorded"}},
    ]  # fmt: skip


def _probes() -> list[dict[str, Any]]:
    curve = {
        "name": "light",
        "unit": "times the light",
        "at": [0.5, 1.0, 2.0],
        "kept": [0.4, 1.0, 0.9],
        "confidence": [0.3, 0.8, None],
    }
    said = {"threshold": "at least 90 % stay", "proves": "it depends on light", "does_not_prove": "that this is wrong"}
    return [
        {
            "name": "background",
            "passed": True,
            "sentence": "96 % of the decisions stay",
            "evidence": {"kept": 0.96},
            **said,
        },
        {"name": "light-level", "passed": False, "sentence": "40 % stay", "evidence": {"curves": [curve]}, **said},
        {"name": "calibration", "passed": None, "sentence": "no truth is known", "evidence": {}, **said},
    ]


def result(bundle_id: str, frames: list[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """What `replay run --json` prints of one that diverged."""
    return {
        "format": "vision-flight-recorder replay", "format_version": {"major": 1, "minor": 1}, "bundle": bundle_id,
        "verdict": "diverged", "reproduced": False, "failure_reproduced": None, "numerics": "faithful",
        "not_restored": [], "remedies": [], "exit_code": 1, "conclusion": "<b>it differs</b>",
        "portable_reference": None, "frames": frames or [],
    }  # fmt: skip


def save_everything(bundle: Path) -> None:
    """Save a verdict and findings of every kind beside a bundle."""
    with Bundle.open(bundle) as opened:
        bundle_id, ids = opened.id, [frame.id for frame in opened.manifest.frames]
    place = {"path": "features.2.conv", "kind": "Conv2d", "call_index": 0, "operator": None}
    difference = {"stage": "model", "where": "output", "what": "another class", "layer": place}
    frames = [{"id": each, "level": "diverged", "first_difference": difference} for each in ids[-3:]]
    path = result_path(str(bundle))
    for found in (located(location()), bisected(bisection()), probed(_probes(), "classification", ids[:2])):
        save_findings(found, bundle_id, path)
    save_result(result(bundle_id, frames), path)
