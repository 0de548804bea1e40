"""A profile as a file: JSON, written all of it or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from recorder.drift.file import read_document as read_profile

__all__ = ["read_profile", "write_profile"]


def write_profile(content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the file; readable by this user alone, for it describes a scene.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
        file.write(json.dumps(content, separators=(",", ":"), allow_nan=False).encode())
    partial.replace(target)
