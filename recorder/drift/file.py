"""A reference in a file: what a profile carries, and what a sealer has learnt and keeps for the next one."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from recorder.drift.reference import Reference

__all__ = ["MAX_FILE_BYTES", "load_reference", "read_document", "save_reference"]

#: Of one stream with a long embedding it takes 150 kB, of one camera 0.5 MB; a reader may hold all of it in memory.
MAX_FILE_BYTES = 32 * 2**20
#: Commas and brackets: 64 cameras and 256 streams, each with the names of all its signals, have half of it.
MAX_PARTS = 2**18


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON object of a profile or reference. The file may come from anyone.

    Raises:
        ValueError: it is no such file, too large, holds more than any this program makes, or no JSON object. One
            sentence.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise ValueError(f"a profile is a file of at most {MAX_FILE_BYTES} bytes; this is none")
        data = file.read(MAX_FILE_BYTES + 1)
    # Before it is parsed: an empty list of two bytes takes fifty-six in memory.
    if sum(data.count(each) for each in (b",", b"[", b"{")) > MAX_PARTS:
        raise ValueError(f"a profile has at most {MAX_PARTS} parts; this is none")
    try:
        content = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError("the file is no profile: it is not JSON; make one with `replay profile build`") from error
    if not isinstance(content, dict):
        raise ValueError("the file is no profile: it is no JSON object; make one with `replay profile build`")
    return content


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def load_reference(path: Path) -> Reference:
    """Read a profile's reference, or a reference alone.

    Raises:
        ValueError: it is neither, or as `read_document`. One sentence.
        OSError: it cannot be read.
    """
    content = read_document(path)
    if "format" in content and content.get("reference") is None:
        raise ValueError("The profile holds no reference for drift; make it again, or set warmup_frames.")
    return Reference.from_document(content.get("reference", content))


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
