"""A profile as a file: JSON, read with a bound on everything, written all of it or nothing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["MAX_PROFILE_BYTES", "read_profile", "write_profile"]

#: One camera takes 0.5 MB; a reader may hold all of it in memory.
MAX_PROFILE_BYTES = 32 * 2**20


def read_profile(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the file's JSON. The file may come from anyone.

    Raises:
        ValueError: it is no such file, too large, or no JSON object. One sentence.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_PROFILE_BYTES:
            raise ValueError(f"a profile is a file of at most {MAX_PROFILE_BYTES} bytes; this is none")
        data = file.read(MAX_PROFILE_BYTES + 1)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("the file is no profile: it is not JSON; make one with `replay profile build`") from error
    if not isinstance(content, dict):
        raise ValueError("the file is no profile: it is no JSON object; make one with `replay profile build`")
    return content


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
