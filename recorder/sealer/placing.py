"""Captured values complete the fields that only a bundle knows, so that one parser checks both."""

from __future__ import annotations

from typing import Any

from recorder.bundle.errors import BundleInvalid
from recorder.bundle.values import MAX_DEPTH

__all__ = ["placed"]

_UNPLACED = {"member": "", "encoding": "raw", "sha256": ""}


def placed(tagged: Any, depth: int = 0) -> Any:
    """Return a captured value's tagged form with member, encoding and sha256 of its tensors left blank.

    Raises:
        BundleInvalid: it is not a tagged value; a ring is untrusted.
    """
    if depth > MAX_DEPTH + 2 or not isinstance(tagged, dict) or len(tagged) != 1:
        raise BundleInvalid("a captured value is malformed")
    [(tag, content)] = tagged.items()
    match tag:
        case "tensor":
            return {"tensor": {**content, **_UNPLACED}}
        case "tuple" | "list":
            return {tag: [placed(item, depth + 1) for item in content]}
        case "dict":
            return {"dict": [[key, placed(item, depth + 1)] for key, item in content]}
        case "record":
            fields = [[name, placed(item, depth + 1)] for name, item in content["fields"]]
            return {"record": {**content, "fields": fields}}
    return tagged
