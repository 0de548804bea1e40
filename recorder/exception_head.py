"""An exception as it stands in a record's head."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any

__all__ = ["exception_head"]

#: Traceback entries kept from either end; recursion errors have thousands between. The outermost say who called, the
#: innermost what failed, which is also what tells one defect from another.
OUTERMOST_ENTRIES, INNERMOST_ENTRIES = 16, 48
MAX_MESSAGE_CHARS = 2_000


def exception_head(error: BaseException, stage: str) -> dict[str, Any]:
    """Describe an exception without its source lines, paths or a call of its ``__repr__``.

    Of a long traceback the middle is left out; an entry then says how many were.
    """
    kind = type(error)
    try:
        message = str(error)[:MAX_MESSAGE_CHARS]
    except Exception:  # noqa: BLE001  # a host's __str__ may do anything
        message = ""
    outermost: list[TracebackType] = []
    innermost: deque[TracebackType] = deque(maxlen=INNERMOST_ENTRIES)
    depth, traceback = 0, error.__traceback__
    while traceback is not None:
        if depth < OUTERMOST_ENTRIES:
            outermost.append(traceback)
        else:
            innermost.append(traceback)
        depth, traceback = depth + 1, traceback.tb_next
    entries = [_entry(each) for each in outermost]
    left_out = depth - len(outermost) - len(innermost)
    if left_out:
        entries.append(f"… {left_out} entries left out")
    entries += [_entry(each) for each in innermost]
    return {
        "type": f"{kind.__module__}.{kind.__qualname__}"[:300],
        "message": message,
        "stage": stage,
        "traceback": entries,
    }


def _entry(traceback: TracebackType) -> str:
    code = traceback.tb_frame.f_code
    module = str(traceback.tb_frame.f_globals.get("__name__", "?"))
    return f"{module}:{code.co_qualname}:{traceback.tb_lineno}"[:300]
