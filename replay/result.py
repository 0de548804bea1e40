"""The JSON form of a replay: what `replay run --json` prints and every `--save` writes (schemas/replay.schema.json)."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replay import findings
from replay.verdict import OUTCOMES, CallVerdict, Difference, FrameVerdict, ReplayResult, StageVerdict, WhatIf

__all__ = ["FORMAT_NAME", "read_result", "result_path", "result_to_json", "save_findings", "save_result"]

FORMAT_NAME = "vision-flight-recorder replay"
FORMAT_VERSION = {"major": 1, "minor": 1}

#: A line for each of a hundred thousand calls; longer ones are refused by the parser.
_MAX_RESULT_BYTES = 64 * 2**20

#: Two commands that save for one bundle take turns; reading and writing take no longer than this.
_TURN_SECONDS = 10.0


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

    if path.exists() and not path.is_file():  # a pipe would keep a reader waiting
        raise BundleUnavailable(f"{path} is no regular file; remove it")
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

    A portable reference and findings that an earlier result of the same bundle holds are kept.

    Raises:
        OSError: the directory cannot be written, or the result is too long to be read again.
    """
    with _turn(path):
        earlier = _earlier(path, data["bundle"])
        kept = {name: earlier[name] for name in ("portable_reference", "findings") if earlier.get(name) is not None}
        _write({**kept, **{name: value for name, value in data.items() if value is not None or name not in kept}}, path)


def save_findings(found: Mapping[str, Any], bundle: str, path: Path) -> None:
    """Write findings beside what is known of the bundle already, whole or not at all.

    Args:
        found: of `replay.findings`.
        bundle: its id; what is saved of another bundle under this name is void.
        path: of the result file, which need not be there.

    Raises:
        OSError: the directory cannot be written, or the result is too long to be read again.
    """
    with _turn(path):
        earlier = _earlier(path, bundle) or _not_replayed(bundle)
        _write(
            {
                **earlier,
                "format_version": dict(FORMAT_VERSION),
                "findings": findings.merged(earlier.get("findings", {}), found),
            },
            path,
        )


def _not_replayed(bundle: str) -> dict[str, Any]:
    return {
        "format": FORMAT_NAME,
        "bundle": bundle,
        "verdict": None,
        "reproduced": False,
        "failure_reproduced": None,
        "numerics": None,
        "not_restored": [],
        "frames": [],
        "conclusion": "not replayed yet",
        "remedies": [],
        "exit_code": 3,
        "portable_reference": None,
    }


def _earlier(path: Path, bundle: str) -> dict[str, Any]:
    """What stands there of this bundle; empty where nothing does, or nothing that is sound."""
    from recorder.bundle.errors import BundleError

    try:
        data = read_result(path)
    except BundleError:
        return {}
    return data if data["bundle"] == bundle else {}


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Keep others out while a result is read, merged and written: by a lock on its directory, which leaves no file.

    Who cannot have it, on a file system without locks or beside a holder that hangs, goes on without: the write itself
    is atomic, and what may be lost is the other's finding.
    """
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _TURN_SECONDS
        while time.monotonic() < deadline:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:
                break
        yield
    finally:
        os.close(directory)


def _write(data: dict[str, Any], path: Path) -> None:
    from recorder.bundle.schema import validate

    text = _readable(data)
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


def _readable(data: dict[str, Any]) -> str:
    """The text; while it is longer than `read_result` takes, the oldest trees of layers go.

    Raises:
        OSError: it would be too long without them.
    """
    from recorder.bundle.errors import BundleInvalid
    from recorder.bundle.strictjson import loads

    text = json.dumps(data, ensure_ascii=True, allow_nan=False, indent=2)
    try:
        loads(text.encode("ascii"))
    except BundleInvalid:
        found = data.get("findings", {})
        if not found.get("locate"):
            raise OSError(errno.EFBIG, "it is longer than can be read again; save fewer --frames") from None
        return _readable({**data, "findings": {**found, "locate": found["locate"][1:]}})
    return text


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
