"""The JSON form of a replay: what `replay run --json` prints and `--save` writes (schemas/replay.schema.json)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

from replay.verdict import OUTCOMES, CallVerdict, Difference, FrameVerdict, ReplayResult, StageVerdict, WhatIf

__all__ = ["FORMAT_NAME", "read_result", "result_path", "result_to_json", "save_result"]

FORMAT_NAME = "vision-flight-recorder replay"
FORMAT_VERSION = {"major": 1, "minor": 0}

#: A line for each of a hundred thousand calls; longer ones are refused by the parser.
_MAX_RESULT_BYTES = 64 * 2**20


def result_to_json(result: ReplayResult) -> dict[str, Any]:
    """Return the object that replay.schema.json describes; every key is always there."""
    return {
        "format": FORMAT_NAME,
        "format_version": dict(FORMAT_VERSION),
        "bundle": result.bundle,
        "verdict": result.verdict.value,
        "reproduced": result.reproduced,
        "failure_reproduced": result.failure_reproduced,
        "numerics": result.numerics,
        "not_restored": list(result.not_restored),
        "frames": [_frame(frame) for frame in result.frames],
        "conclusion": result.conclusion,
        "remedies": list(result.remedies),
        "exit_code": result.exit_code,
        "portable_reference": result.portable_reference.to_json() if result.portable_reference else None,
        "interrupted": result.interrupted,
        "thinned": result.thinned,
        **({} if result.what_if is None else {"what_if": _what_if(result.what_if)}),
    }


def result_path(bundle: str) -> Path:
    """Return where the result of a bundle's replay is kept: beside it."""
    return Path(f"{bundle}.replay.json")


def read_result(path: Path) -> dict[str, Any]:
    """Read a result that may be a stranger's.

    Raises:
        BundleInvalid: it is not one, or of a newer major version.
        BundleUnavailable: there is no such file, or it cannot be read.
    """
    from recorder.bundle.errors import BundleUnavailable
    from recorder.bundle.schema import validate
    from recorder.bundle.strictjson import loads

    try:
        with path.open("rb") as file:
            content = file.read(_MAX_RESULT_BYTES + 1)
    except OSError as error:
        raise BundleUnavailable(f"{path}: {error.strerror or type(error).__name__}") from error
    data: dict[str, Any] = loads(content, "the replay's result")
    validate(data, "replay")
    return data


def save_result(data: dict[str, Any], path: Path) -> None:
    """Write a result, whole or not at all, after checking it against the schema.

    A portable reference that an earlier result of the same bundle holds is kept.

    Raises:
        OSError: the directory cannot be written.
    """
    from recorder.bundle.schema import validate
    from replay.reference import earlier_reference

    if data["portable_reference"] is None:
        earlier, _ = earlier_reference(path, data["bundle"])
        data = {**data, "portable_reference": earlier.to_json() if earlier else None}
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, indent=2)
    validate(json.loads(text), "replay")
    scratch = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with scratch.open("x", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            scratch.unlink()


def _frame(frame: FrameVerdict) -> dict[str, Any]:
    return {
        "id": frame.id,
        "level": frame.level.value,
        "first_difference": _difference(frame.first_difference),
        "reason": frame.reason,
        "calls": [_call(call) for call in frame.calls],
        **({"stages": [_stage(stage) for stage in frame.stages]} if frame.stages else {}),
    }


def _call(call: CallVerdict) -> dict[str, Any]:
    return {
        "call": call.call,
        "model": call.model,
        "level": call.level.value,
        "first_difference": _difference(call.first_difference),
        "reason": call.reason,
    }


def _stage(stage: StageVerdict) -> dict[str, Any]:
    return {
        "stage": stage.name,
        "level": stage.level.value,
        "difference": _difference(stage.difference),
        "note": stage.note,
    }


def _what_if(what_if: WhatIf) -> dict[str, Any]:
    counts = Counter(frame.outcome for frame in what_if.frames)
    return {
        "changes": list(what_if.changes),
        "judged_by": what_if.judged_by,
        "counts": {outcome: counts[outcome] for outcome in OUTCOMES},
        "frames": [
            {"id": frame.id, "outcome": frame.outcome, "recorded": frame.recorded, "replayed": frame.replayed}
            for frame in what_if.frames
        ],
    }


def _difference(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    return {
        "stage": difference.stage,
        "where": difference.where,
        "what": difference.what,
        "max_abs": _finite(difference.max_abs),
        "rel_l2": _finite(difference.rel_l2),
        "recorded": difference.recorded,
        "replayed": difference.replayed,
        "margin_over_delta": _finite(difference.margin_over_delta),
        "layer": None if difference.layer is None else dataclasses.asdict(difference.layer),
    }


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
