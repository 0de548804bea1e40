"""A share of all frames, chosen by what is known of them: the same in every process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from recorder.bundle.manifest import Trigger
from recorder.sealer.ended import EndedFrame
from recorder.sealer.evaluators.evaluator import fired

__all__ = ["Sample"]


class Sample:
    """Chooses by a digest."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._rate = float(parameters["rate"])
        self._by = str(parameters["by"])

    def evaluate(self, frame: EndedFrame) -> Trigger | None:
        """See `Evaluator`."""
        for stage in (frame.end, frame.begin):
            metadata = stage.head.get("metadata") if stage is not None else None
            if metadata and metadata.get(self._by) is not None:
                chosen_by = metadata[self._by]
                break
        else:
            chosen_by = frame.id
        text = chosen_by if isinstance(chosen_by, str) else json.dumps(chosen_by, sort_keys=True)
        digest = hashlib.sha256(text.encode(errors="replace")).digest()
        if int.from_bytes(digest[:8], "big") / 2**64 >= self._rate:
            return None
        return fired(
            "sample", frame, f"one of a sample of {self._rate:g}", parameters={"rate": self._rate, "by": self._by}
        )
