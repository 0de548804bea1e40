"""Frames and history as Parquet tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recorder.bundle.errors import BundleError
from replay.export.source import CannotExport, Shot, Source
from replay.result import read_result, result_path

__all__ = ["parquet"]


def parquet(source: Source, out: Path, location: str) -> None:
    """Write ``frames.parquet``, one row a frame, and ``track.parquet``, one row a frame or interval of the history.

    Args:
        source: the frames.
        out: a directory that is there and empty.
        location: of the bundle, beside which the result of a replay may stand.

    Raises:
        CannotExport: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet as files
    except ImportError as error:
        raise CannotExport("Parquet needs pyarrow: pip install 'vision-flight-recorder[export]'") from error
    levels = _levels(location, source.bundle.id)
    rows = [_row(shot, levels.get(shot.frame.id)) for shot in source.shots()]
    keys = sorted({key for row in rows for key in row["metadata"]})
    for row in rows:
        metadata = row.pop("metadata")
        row |= {f"metadata.{key}": metadata.get(key) for key in keys}
    files.write_table(pa.Table.from_pylist(rows), out / "frames.parquet")
    history = []
    for table in source.bundle.track():
        names = list(table.columns)
        for values in zip(*table.columns.values(), strict=True):
            history.append(
                {"stream": table.level.stream, "interval_seconds": table.level.seconds}
                | {
                    name: f"{value:016x}" if name == "digest" else value
                    for name, value in zip(names, values, strict=True)
                }
            )
    if history:
        names = sorted({name for row in history for name in row})
        files.write_table(
            pa.Table.from_pylist([{name: row.get(name) for name in names} for row in history]), out / "track.parquet"
        )


def _row(shot: Shot, level: str | None) -> dict[str, Any]:
    frame, reading = shot.frame, shot.reading
    return {
        "frame": frame.id,
        "time_ns": frame.time_ns,
        "stream": frame.stream,
        "status": frame.status,
        "latency_seconds": frame.latency_seconds,
        "exception": frame.exception.type if frame.exception is not None else None,
        "image": shot.image.member if shot.image is not None else None,
        "task": reading.task if reading is not None else None,
        "decision": reading.label if reading is not None else None,
        "top_class": reading.winner if reading is not None else None,
        "confidence": reading.confidence if reading is not None else None,
        "replay_level": level,
        "metadata": {key: _plain(value) for key, value in frame.metadata.items()},
    }


def _plain(value: object) -> str | None:
    """Text, so that a column has one type whatever frames say; anything but text as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _levels(location: str, bundle_id: str) -> dict[int, str]:
    """Each frame's verdict from a saved replay of this bundle, if there is one."""
    try:
        result = read_result(result_path(location))
    except BundleError:
        return {}
    if result.get("bundle") != bundle_id:
        return {}
    return {frame["id"]: frame["level"] for frame in result.get("frames", [])}
