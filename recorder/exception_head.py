"""An exception as it stands in a record's head."""

from __future__ import annotations

from typing import Any

__all__ = ["exception_head"]

#: Outermost traceback entries kept of an exception; recursion errors have thousands.
MAX_TRACEBACK_ENTRIES = 64
MAX_MESSAGE_CHARS = 2_000


def exception_head(error: BaseException, stage: str) -> dict[str, Any]:
    """Describe an exception without its source lines, paths or a call of its ``__repr__``."""
    kind = type(error)
    try:
        message = str(error)[:MAX_MESSAGE_CHARS]
    except Exception:  # noqa: BLE001  # a host's __str__ may do anything
        message = ""
    entries: list[str] = []
    traceback = error.__traceback__
    while traceback is not None and len(entries) < MAX_TRACEBACK_ENTRIES:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", "?"))
        entries.append(f"{module}:{frame.f_code.co_qualname}:{traceback.tb_lineno}"[:300])
        traceback = traceback.tb_next
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}"[:300],
        "message": message,
        "stage": stage,
        "traceback": entries,
    }
