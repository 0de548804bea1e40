"""Frames, triggers and history as Parquet tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Trigger
from replay.export.signals import detector_of, frame_signals, named_signals
from replay.export.source import CannotExport, Shot, Source
from replay.opening import local_name
from replay.result import read_result, result_path

__all__ = ["parquet"]


def parquet(sources: Sequence[Source], out: Path) -> None:
    """Write a row a frame, a row a trigger, and a row a frame or interval of the history, each with its bundle's id.

    ``frames.parquet`` has the signals of the history as columns with units in their names, ``track.parquet`` too.

    Args:
        sources: the frames.
        out: a directory that is there and empty.

    Raises:
        CannotExport: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet as files
    except ImportError as error:
        raise CannotExport("Parquet needs pyarrow: pip install 'vision-flight-recorder[export]'") from error
    tables = {
        "frames": [row for source in sources for row in _frames(source)],
        "triggers": [_trigger(source, each) for source in sources for each in source.bundle.manifest.incident.triggers],
        "track": [row for source in sources for row in _track(source)],
    }
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if rows:
            table = pa.Table.from_pylist([{column: row.get(column) for column in columns} for row in rows])
            files.write_table(table, out / f"{name}.parquet")


def _frames(source: Source) -> Iterator[dict[str, Any]]:
    levels, signals = _levels(source), frame_signals(source)
    for shot in source.shots():
        known = _row(shot, levels.get(shot.frame.id))
        metadata = {f"metadata.{key}": _plain(value) for key, value in shot.frame.metadata.items()}
        measured = {name: value for name, value in signals.get(shot.frame.id, {}).items() if name not in known}
        yield known | measured | metadata


def _row(shot: Shot, level: str | None) -> dict[str, Any]:
    frame, reading = shot.frame, shot.reading
    return {
        "bundle": shot.source.bundle.id,
        "frame": frame.id,
        "time_ns": frame.time_ns,
        "stream": frame.stream,
        "status": frame.status,
        "latency_seconds": frame.latency_seconds,
        "exception": frame.exception.type if frame.exception is not None else None,
        "image": shot.images[0].member if shot.images else None,
        "images": len(shot.images),
        "task": reading.task if reading is not None else None,
        "decision": reading.label if reading is not None else None,
        "top_class": reading.winner if reading is not None else None,
        "confidence": reading.confidence if reading is not None else None,
        "replay_level": level,
    }


def _plain(value: object) -> str | None:
    """Text, so that a column has one type whatever frames say; anything but text as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _trigger(source: Source, trigger: Trigger) -> dict[str, Any]:
    onset = trigger.parameters.get("onset_frame")
    return {
        "bundle": source.bundle.id,
        "frame": trigger.frame,
        "time_ns": trigger.time_ns,
        "kind": trigger.kind,
        "detector": detector_of(trigger),
        "severity": trigger.severity,
        "reason": trigger.reason,
        "value": _number(trigger.value),
        "threshold": _number(trigger.threshold),
        "onset_frame": onset if isinstance(onset, int) and abs(onset) < 2**63 else None,
        "parameters": json.dumps(trigger.parameters, ensure_ascii=False),
    }


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _track(source: Source) -> Iterator[dict[str, Any]]:
    names = named_signals(source)
    for table in source.bundle.track():
        titles = [_title(column, names) for column in table.columns]
        for values in zip(*table.columns.values(), strict=True):
            row = dict(zip(titles, values, strict=True))
            if "digest" in row:
                row["digest"] = f"{row['digest']:016x}"  # 64 bits without a sign, which not every reader has
            level = table.level
            yield {"bundle": source.bundle.id, "stream": level.stream, "interval_seconds": level.seconds, **row}


def _title(column: str, names: dict[str, str]) -> str:
    signal, dot, part = column.rpartition(".")
    return f"{names[signal]}.{part}" if dot and signal in names else names.get(column, column)


def _levels(source: Source) -> dict[int, str]:
    """Each frame's verdict from a saved replay of this bundle, if there is one."""
    try:
        result = read_result(result_path(local_name(source.location)))
    except BundleError:
        return {}
    if result.get("bundle") != source.bundle.id:
        return {}
    return {frame["id"]: frame["level"] for frame in result.get("frames", [])}
