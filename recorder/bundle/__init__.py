"""The bundle: the file format of a sealed incident, its writer and its strict reader (schemas/FORMAT.md).

Stands alone: neither torch nor anything else of this package is imported, and numpy only on first use of a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "Bundle",
    "BundleError",
    "BundleInvalid",
    "BundleUnavailable",
    "BundleWriter",
    "BytesSource",
    "FileSource",
    "Manifest",
    "PixelsDiffer",
    "RangeSource",
]

if TYPE_CHECKING:
    from recorder.bundle.errors import BundleError, BundleInvalid, BundleUnavailable, PixelsDiffer
    from recorder.bundle.manifest import Manifest
    from recorder.bundle.reader import Bundle
    from recorder.bundle.source import BytesSource, FileSource, RangeSource
    from recorder.bundle.writer import BundleWriter

_MODULES = {
    "Bundle": "reader",
    "BundleError": "errors",
    "BundleInvalid": "errors",
    "BundleUnavailable": "errors",
    "BundleWriter": "writer",
    "BytesSource": "source",
    "FileSource": "source",
    "Manifest": "manifest",
    "PixelsDiffer": "errors",
    "RangeSource": "source",
}


def __getattr__(name: str) -> object:
    """Import the public names on first use."""
    import importlib

    if name in _MODULES:
        return getattr(importlib.import_module(f"recorder.bundle.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'recorder.bundle' has no attribute {name!r}")
