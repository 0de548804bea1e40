"""Names of a bundle as names of files, entities and columns: distinct ones stay distinct and lead nowhere else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

__all__ = ["NO_CLASS", "plain_name", "sample_name", "with_unit"]

#: The folder of pictures of which no class is known.
NO_CLASS = "unknown"

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_MARKED = re.compile(r".*-[0-9a-f]{10}")
_MAX_CHARS = 80


def plain_name(name: str, reserved: Collection[str] = (NO_CLASS,)) -> str:
    """A name of letters, digits, dashes and underscores, another one for every other name.

    A name that is plain already stays as it is. Of any other, what is plain of it is kept, followed by a dash and ten
    hexadecimal digits of its SHA-256; so are names that look like such a one, are too long, or are in ``reserved``.
    """
    marked = name in reserved or not name or len(name) > _MAX_CHARS or _MARKED.fullmatch(name)
    if not marked and not _UNSAFE.search(name):
        return name
    kept = _UNSAFE.sub("_", name)[: _MAX_CHARS - 11].strip("_")
    return f"{kept}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def sample_name(bundle: str, frame: int, number: int) -> str:
    """A name for a frame's first, second … picture that no picture of another bundle or frame has."""
    return f"{bundle[:12]}-{frame}" + (f"-{number}" if number else "")


def with_unit(name: str, unit: str) -> str:
    """A signal's name with its unit, such as ``luminance_of_full_scale``; as it is where it ends in it already."""
    word = "_".join(_UNSAFE.sub(" ", unit)[:40].split())
    plain = plain_name(name, ())
    return plain if not word or plain.endswith(f"_{word}") else f"{plain}_{word}"
