"""The worker's side of a registered comparator: import it, show it both answers, pass on what it says."""

from __future__ import annotations

import importlib
from typing import Any

from replay.show.text import inert
from replay.worker.arguments import NotRebuildable, rebuild

__all__ = ["compare"]


def compare(request: dict[str, Any], payload: bytearray) -> dict[str, Any]:
    """Call the comparator that a request names with (recorded, replayed, thresholds).

    Returns:
        ``{"status": "ok", "same", "what", "margin_over_delta"}``, or ``{"status": "refused", "reason"}``.
    """
    view = memoryview(payload)
    try:
        module, _, function = request["function"].partition(":")
        judge: Any = importlib.import_module(module)
        for part in function.split("."):
            judge = getattr(judge, part)
        sides = [
            None if request[side] is None else rebuild(request[side], view, where=side)
            for side in ("recorded", "replayed")
        ]
        said = judge(*sides, request["thresholds"])
    except NotRebuildable as lacking:
        return {"status": "refused", "reason": str(lacking)}
    except BaseException as error:  # noqa: BLE001 - whatever the user's code raises
        return {"status": "refused", "reason": f"{type(error).__name__}: {inert(error, 200)}"}
    if isinstance(said, dict):
        known = {key: said[key] for key in ("same", "what", "margin_over_delta") if key in said}
        plain = {key: item for key, item in known.items() if isinstance(item, bool | int | float | str)}
        return {"status": "ok", **plain}
    return {"status": "ok", "same": bool(said)}
