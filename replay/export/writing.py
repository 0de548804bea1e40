"""The formats, and how one of them is written: all of it or nothing."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from replay.export.coco import coco
from replay.export.foxglove import mcap
from replay.export.imagefolder import imagefolder
from replay.export.rerun_recording import rrd
from replay.export.source import Source
from replay.export.tables import parquet

__all__ = ["write_export"]

_FOLDERS: dict[str, Callable[[Sequence[Source], Path], None]] = {
    "coco": coco,
    "imagefolder": imagefolder,
    "parquet": parquet,
}
_FILES: dict[str, Callable[[Sequence[Source], Path], None]] = {"mcap": mcap, "rrd": rrd}


def write_export(form: str, sources: Sequence[Source], out: Path) -> None:
    """Write incidents in one of the formats.

    Args:
        form: a folder of "coco", "imagefolder" or "parquet", or a file of "mcap" or "rrd".
        sources: at least one, of each bundle the first; they are written in the order of their time.
        out: where nothing stands.

    Raises:
        CannotExport: a package is missing.
        FileExistsError: something stands there, which is left alone.
        BundleError: a bundle is damaged.
        OSError: it cannot be written.
    """
    different = {source.bundle.id: source for source in reversed(sources)}  # a signed copy has the id of the original
    sources[0].exported.left_out["bundle that is there a second time"] += len(sources) - len(different)
    ordered = sorted(different.values(), key=lambda source: (source.began_ns, source.bundle.id))
    # Under its name only when it is whole: of a process that is killed nothing is left that looks like a set.
    partial = out.with_name(f".{out.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        if form in _FOLDERS:
            partial.mkdir()
            _FOLDERS[form](ordered, partial)
            _name_folder(partial, out)
        else:
            _FILES[form](ordered, partial)
            _name_file(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True) if form in _FOLDERS else partial.unlink(missing_ok=True)


def _name_folder(partial: Path, out: Path) -> None:
    """Rename; what somebody put there meanwhile is left alone, an empty directory aside."""
    try:
        partial.rename(out)
    except OSError as error:
        if os.path.lexists(out):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        raise


def _name_file(partial: Path, out: Path) -> None:
    """Link, which never overwrites; where there are no links, hold the name first."""
    try:
        os.link(partial, out)
    except FileExistsError:
        raise
    except OSError:
        out.touch(exist_ok=False)
        partial.replace(out)
