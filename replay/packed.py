"""Model files that a bundle holds itself: put into a directory of ours when one is asked for."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from recorder.bundle import Bundle
from recorder.bundle.errors import BundleUnavailable

__all__ = ["PackedModels"]


class PackedModels:
    """The models within a bundle, as files for a worker. A context manager: the files are gone when the block ends.

    A file is whatever the bundle holds under that name; who loads it hashes the bytes it loads.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._names = {
            member.path.partition("/")[2] for member in bundle.manifest.members if member.path.startswith("models/")
        }
        self._stack = contextlib.ExitStack()
        self._directory: Path | None = None

    def __enter__(self) -> PackedModels:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def file(self, name: str) -> Path | None:
        """The path of ``<digest>.<extension>``, or None when the bundle has no such member.

        Raises:
            BundleInvalid, BundleUnavailable: the member is damaged, or there is no room for a copy of it.
        """
        if name not in self._names:
            return None
        if self._directory is None:
            self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="replay-models-")))
        path = self._directory / name  # the grammar of member paths has made sure that it is a plain name
        if not path.exists():
            try:
                with path.open("xb") as file:
                    for part in self._bundle.stream(f"models/{name}"):
                        file.write(part)
            except OSError as error:
                path.unlink(missing_ok=True)
                raise BundleUnavailable(f"the model inside cannot be copied to {path}: {error.strerror}") from error
        return path
