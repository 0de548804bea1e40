"""The formats, and how one of them is written: all of it or nothing."""

from __future__ import annotations

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
    try:
        if form in _FOLDERS:
            out.mkdir()
            _FOLDERS[form](ordered, out)
        else:
            _FILES[form](ordered, out)
    except FileExistsError:  # somebody was quicker: what stands there is theirs
        raise
    except BaseException:
        shutil.rmtree(out, ignore_errors=True) if form in _FOLDERS else out.unlink(missing_ok=True)
        raise
