"""Two files of one kind: bundles, or results of replays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorder.bundle.codec import to_json
from recorder.bundle.manifest import Environment, Frame, Manifest
from recorder.bundle.values import tensors_of
from replay.diff.finding import Finding, changed
from replay.show.text import id_ranges

__all__ = ["compare_bundles", "compare_results", "is_result"]


def is_result(location: str) -> bool:
    """Whether a file is a replay's result and no bundle: a zstd frame never begins with a brace."""
    try:
        with Path(location).open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False  # opening it as a bundle says what is wrong


def compare_bundles(one: Manifest, two: Manifest) -> Iterator[Finding]:
    """Compare two bundles subject by subject: settings and machine as they were when the window began."""
    yield changed("trigger", _trigger(one), _trigger(two))
    yield changed("models", _models(one), _models(two))
    first, second = _environment(one), _environment(two)
    yield changed("packages", first.packages, second.packages)
    yield changed("settings", first.settings, second.settings)
    yield changed("variables", first.variables, second.variables)
    yield changed("libraries", first.libraries, second.libraries)
    machine = ("platform", "python", "cpu", "gpus", "git_commit", "git_dirty")
    yield changed(
        "machine",
        {name: _plain(getattr(first, name)) for name in machine},
        {name: _plain(getattr(second, name)) for name in machine},
    )
    yield changed("call settings", _call_settings(one), _call_settings(two))
    yield _frames_changed(_frames(one), _frames(two))


def _environment(manifest: Manifest) -> Environment:
    """The first one; a bundle without frames and calls may have none."""
    if manifest.contexts:
        return manifest.contexts[0].environment
    return Environment(python="", platform="", cpu={}, gpus=(), packages={}, variables={}, libraries={}, settings={})


def _trigger(manifest: Manifest) -> dict[str, Any]:
    if not manifest.incident.triggers:
        return {}
    trigger = manifest.incident.triggers[0]
    return {"kind": trigger.kind, "reason": trigger.reason, "frame": trigger.frame}


def _models(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in manifest.models:
        digest = model.weights.digest if model.weights else None
        found[f"{model.name} weights"] = digest
        found[f"{model.name} type"] = model.type
        found[f"{model.name} factory"] = model.factory
        found[f"{model.name} weights laid out"] = len(model.layouts)
    return found


def _call_settings(manifest: Manifest) -> dict[str, Any]:
    """The settings of each model's first call, and the shapes it was given."""
    found: dict[str, Any] = {}
    names = {model.id: model.name for model in manifest.models}
    for call in manifest.calls:
        name = names[call.model]
        if f"{name} modes" not in found:
            found[f"{name} modes"] = to_json(call.settings) | {"autocast": call.settings.autocast}
            found[f"{name} inputs"] = [f"{each.dtype} {list(each.shape)}" for _, each in tensors_of(call.args)]
    return found


def _frames(manifest: Manifest) -> dict[str, Any]:
    calls = {call.id: call for call in manifest.calls}
    return {f"frame {frame.id}": _frame(frame, calls) for frame in manifest.frames}


def _frames_changed(a: dict[str, Any], b: dict[str, Any]) -> Finding:
    """Frames that only one bundle has are told together; of the others, what of them differs."""
    found = changed("frames", a, b)
    lines = []
    for side, mine, other in (("the first", a, b), ("the second", b, a)):
        alone = [int(name.split()[1]) for name in mine if name not in other]
        if alone:
            lines.append(f"only in {side} bundle: {id_ranges(alone)}")
    for name in a.keys() & b.keys():
        parts = [part for part in a[name] if a[name][part] != b[name][part]]
        if parts:
            lines.append(f"{name}: other {' and '.join(parts)}")
    return replace(found, lines=tuple(lines))


def _frame(frame: Frame, calls: dict[int, Any]) -> dict[str, Any]:
    """What a frame was and came to, by digest: its pictures and the answers of its calls."""
    answers = [tensor.sha256[:16] for call in frame.calls for _, tensor in tensors_of(calls[call].output)]
    return {
        "stream": frame.stream,
        "status": frame.status,
        "pictures": [(image.pixels_sha256 or "unknown")[:16] for image in frame.images],
        "answers": answers,
    }


def compare_results(a: dict[str, Any], b: dict[str, Any]) -> list[Finding]:
    """Compare what `read_result` gave for two files."""
    whole = ("bundle", "verdict", "reproduced", "failure_reproduced", "numerics")
    sides = [{f"frame {frame['id']}": frame["level"] for frame in side["frames"]} for side in (a, b)]
    restored = [dict.fromkeys(side["not_restored"], "not restored") for side in (a, b)]
    references = [
        {f"call {each['call']}": each["digest"] for each in (side.get("portable_reference") or {}).get("calls", [])}
        for side in (a, b)
    ]
    return [
        *(changed(name, {name: a[name]}, {name: b[name]}) for name in whole),
        changed("frames", *sides),
        changed(
            "differences", *({f"frame {f['id']}": f["first_difference"] for f in side["frames"]} for side in (a, b))
        ),
        changed("not restored", *restored),
        changed("portable reference", *references),
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
