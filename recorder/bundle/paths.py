"""The closed grammar of member paths: fixed folders, generated hexadecimal ids, known extensions.

An allow-list of characters is not enough: ``conftest.py`` or ``numpy.py`` would be unpacked and run. Hexadecimal ids
cannot spell a module, a hidden file or a device name of Windows.
"""

from __future__ import annotations

import re

__all__ = ["FOLDERS", "MANIFEST_PATH", "folder_of", "is_member_path"]

MANIFEST_PATH = "manifest.json"

#: Folder to the extensions its members may have, in archive order: small things that are read together come first.
FOLDERS: dict[str, tuple[str, ...]] = {
    "records": ("json", "msgpack"),
    "thumbnails": ("jpg",),
    "images": ("png", "jpg", "webp", "bin"),
    "tensors": ("bin",),
    "models": ("safetensors", "graph.json", "onnx"),
}

_MAX_PATH_CHARACTERS = 100  # the name field of a USTAR header
_PATTERN = re.compile(
    "|".join(
        rf"{folder}/[0-9a-f]{{1,64}}(?:-[0-9]{{1,6}})?\.(?:{'|'.join(map(re.escape, extensions))})"
        for folder, extensions in FOLDERS.items()
    )
)


def is_member_path(path: str) -> bool:
    """Tell whether a path may name a member (``manifest.json`` is not one)."""
    return len(path) <= _MAX_PATH_CHARACTERS and _PATTERN.fullmatch(path) is not None


def folder_of(path: str) -> str:
    """Return the folder of a member path."""
    return path.partition("/")[0]
