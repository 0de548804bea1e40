"""A reference in a file: what a profile carries, and what a sealer has learnt and keeps for the next one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from recorder.drift.reference import Reference

__all__ = ["MAX_FILE_BYTES", "load_reference", "save_reference"]

#: Of one stream with a long embedding it takes 150 kB; a reader may hold all of it in memory.
MAX_FILE_BYTES = 32 * 2**20


def load_reference(path: Path) -> Reference:
    """Read a profile's reference, or a reference alone. The file may come from anyone.

    Raises:
        ValueError: it is no such file, too large, or states what cannot be. One sentence.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise ValueError(f"A profile is a file of at most {MAX_FILE_BYTES} bytes.")
        data = file.read(MAX_FILE_BYTES)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("The file is no profile: it is not JSON.") from error
    if isinstance(content, dict) and "format" in content and content.get("reference") is None:
        raise ValueError("The profile holds no reference for drift; make it again, or set warmup_frames.")
    return Reference.from_document(content.get("reference", content) if isinstance(content, dict) else content)


def save_reference(reference: Reference, path: Path) -> None:
    """Write a reference, all of it or nothing; readable by this user alone, for it describes a scene.

    Raises:
        OSError: it cannot be written.
    """
    data = json.dumps(reference.document(), separators=(",", ":")).encode()
    partial = path.with_name(path.name + ".partial")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
        file.write(data)
    partial.replace(path)
