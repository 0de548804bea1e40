"""What locate, bisect and probe found of a bundle, in the form in which it is saved beside the replay's verdict.

One file holds all that is known of a bundle (`replay.result`). A finding stays until the same question is asked again:
`locate` by the two sides it held against each other, `bisect` as a whole, `probe` by the name of the test. A later
`replay run --save` leaves findings alone: they are of the same recorded bits. What makes them void is another bundle
under the same name. Each says when, with which torch and on which CPU it was found, as the next machine may differ.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import recorder
from recorder.bundle import strictjson
from recorder.environment import describe_cpu

__all__ = ["bisected", "located", "merged", "probed"]

#: Pairs of sides that are kept of `locate`, the latest ones.
_LOCATED_KEPT = 8

#: Calls of one `locate`, and layers of all of them: four times what a large network has; a reader takes 16 MB. Of more,
#: those around the root.
_CALLS_KEPT, _LAYERS_KEPT = 16, 2000

_PROBES_KEPT = 64


def located(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return findings of `replay locate`, from the object it prints; calls that differ come first."""
    calls = sorted(form["calls"], key=lambda call: not call["differs"])
    kept, room = [], _LAYERS_KEPT
    for call in calls[:_CALLS_KEPT]:
        kept.append(_thinned(call, room))
        room -= len(kept[-1]["layers"]) + len(kept[-1]["operators"])
    about = {name: form[name] for name in ("reference", "other", "not_restored", "conclusion")}
    return _plain({"locate": [{"found": _found(), **about, "calls": kept, "calls_left_out": len(calls) - len(kept)}]})


def bisected(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return findings of `replay bisect`, from the list it prints."""
    return _plain({"bisect": {"found": _found(), "findings": list(findings)}})


def probed(findings: Sequence[Mapping[str, Any]], task: str, frames: Sequence[int]) -> dict[str, Any]:
    """Return findings of `replay probe`, from the list it prints; pictures stand on its own page only."""
    about = {"found": _found(), "task": task, "frames": list(frames)}
    return _plain({"probe": [{**about, **finding} for finding in findings]})


def merged(earlier: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return both; an earlier answer to a question that was asked again gives way."""
    both = {**earlier, **new}
    if "locate" in new:
        asked = {(each["reference"], each["other"]) for each in new["locate"]}
        others = [each for each in earlier.get("locate", ()) if (each["reference"], each["other"]) not in asked]
        both["locate"] = [*others, *new["locate"]][-_LOCATED_KEPT:]
    if "probe" in new:
        names = {each["name"] for each in new["probe"]}
        others = [each for each in earlier.get("probe", ()) if each["name"] not in names]
        both["probe"] = [*others, *new["probe"]][-_PROBES_KEPT:]
    return both


def _found() -> dict[str, str]:
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = ""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "product": f"vision-flight-recorder {recorder.__version__}",
        "torch": torch[:80],
        "cpu": str(describe_cpu()["model"])[:200],
    }


def _thinned(call: Mapping[str, Any], room: int) -> dict[str, Any]:
    """A call with as many of its layers as there is room for, the operators inside the root first."""
    operators = _around(call["operators"], call["first_difference"], room // 2)
    layers = _around(call["layers"], call["first_difference"], room - len(operators))
    return {**call, "layers": layers, "operators": operators, "layers_left_out": len(call["layers"]) - len(layers)}


def _around(layers: list[dict[str, Any]], root: Mapping[str, Any] | None, room: int) -> list[dict[str, Any]]:
    if len(layers) <= room:
        return layers
    at = next((number for number, layer in enumerate(layers) if root and layer["path"] == root["path"]), 0)
    begin = min(max(0, at - room // 2), len(layers) - room)
    return layers[begin : begin + room]


def _plain(findings: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: numbers that are not finite are null."""
    plain: dict[str, Any] = json.loads(strictjson.dumps(findings))
    return plain
