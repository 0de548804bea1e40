"""Bundles in directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from replay.erasure.finding import Place
from replay.result import result_path

__all__ = ["BUNDLE_SUFFIXES", "Directories"]

BUNDLE_SUFFIXES = (".zst", ".zst.age")
#: What a process that died leaves while it writes a bundle or copies one.
_FRAGMENTS = (".part", ".partial", ".spool")
_RING = ".ring"


class Directories:
    """A sink's directory, and spools with all that is below them; saved replays go with their bundles."""

    def __init__(self, sink: Path | None, spools: Sequence[Path]) -> None:
        """Nothing is read yet."""
        self._sink = sink
        self._spools = tuple(spools)

    def bundles(self) -> Iterator[Place]:
        """Yield bundles, hidden ones too; links are not followed."""
        yield from (path for path in self._files() if path.name.endswith(BUNDLE_SUFFIXES))

    def unfinished(self) -> Iterator[tuple[Place, str]]:
        """Yield fragments and rings."""
        for path in self._files():
            if path.name.endswith(_FRAGMENTS):
                yield path, "a file that was not finished; remove it when its writer is gone"
            elif path.name.endswith(_RING):
                yield path, f"a ring; seal it with `replay seal --once --watch {path.parent}`, and erase again"

    def remove(self, place: Place) -> None:
        """Unlink it durably."""
        assert isinstance(place, Path)  # noqa: S101 - ours
        _unlink(result_path(str(place)))  # first: it quotes what goes, and without its bundle nobody finds it
        _unlink(place)

    def rewrite(self, place: Place, write: Callable[[Path], None]) -> None:
        """A new file is durable before the old one goes, under the same name, mode and time."""
        assert isinstance(place, Path)  # noqa: S101 - ours
        _unlink(result_path(str(place)))
        status = place.stat()
        write(place)
        place.chmod(stat.S_IMODE(status.st_mode))
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))  # retention goes by age

    def _files(self) -> Iterator[Path]:
        """Everything that may be a bundle or become one, each once."""
        seen: set[Path] = set()
        places = [] if self._sink is None else [path for path in self._sink.iterdir() if not path.is_dir()]
        for spool in self._spools:
            for folder, _, names in os.walk(spool, onerror=_raise):
                places += [Path(folder) / name for name in names]
        for path in sorted(places):
            wanted = path.name.endswith((*BUNDLE_SUFFIXES, *_FRAGMENTS, _RING))
            if wanted and path.is_file() and not path.is_symlink() and path.absolute() not in seen:
                seen.add(path.absolute())
                yield path


def _raise(error: OSError) -> None:
    raise error


def _unlink(path: Path) -> None:
    """Remove a file for good: the directory is on the disk without it."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
