"""Where bundles are put together: a directory of the sealer's own, so that what a killed one left is found again."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path

from recorder.ring import RingError
from recorder.ring.location import private_directory

__all__ = ["close_scratch", "open_scratch", "renew_scratch"]


def open_scratch(directory: Path) -> Path | None:
    """Make the scratch directory of the sealer that serves ``directory``, empty; None when it cannot be had.

    It is in the temp directory, on disk where there is one: the ring's file system is memory. Only who holds the
    directory's lock may call this.
    """
    name = f"scratch-{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"
    try:
        path = private_directory(Path(tempfile.gettempdir())) / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
    except (RingError, OSError):
        return None
    return path


def renew_scratch(path: Path | None) -> None:
    """Make the directory again where it is gone: temp directories are swept of what nobody has used for some days.

    Raises:
        OSError: it cannot be made; the temp directory itself may be gone.
    """
    if path is not None and not path.is_dir():
        try:
            private_directory(path.parent.parent)
        except RingError as error:
            raise OSError(str(error).rstrip(".")) from error
        path.mkdir(mode=0o700)


def close_scratch(path: Path | None) -> None:
    """Remove it."""
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
