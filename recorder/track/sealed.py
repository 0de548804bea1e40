"""From what a track holds to what a bundle says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recorder.bundle import BundleWriter
from recorder.bundle.limits import MAX_TRACK_BYTES, MAX_TRACK_LEVELS
from recorder.bundle.manifest import Track, TrackLevel, TrackSignal, TrackThumbnail
from recorder.bundle.track import PARTS, TrackTable, encode
from recorder.track.decimation import LEVELS
from recorder.track.reader import Slots, TrackReader, TrackView

__all__ = ["MAX_SEALED_THUMBNAILS", "load_track", "store_track"]

#: The member's path; the grammar of paths allows hexadecimal names only.
_MEMBER = "records/0.msgpack"
#: Streams sealed when the incident is of none in particular; those with the newest frames.
MAX_SEALED_STREAMS = 64
#: An hour of one stream, of more streams the last ones; each is a member of 2 kB.
MAX_SEALED_THUMBNAILS = 200
#: What a manifest can say of a frame's number.
_MAX_FRAME = 2**63 - 1


def load_track(path: Path, owner: str, last_row: int | None) -> TrackView:
    """Read what a recording's track held, no further back than it promises.

    Args:
        path: the file.
        owner: the recording it must be of.
        last_row: number of the last row that counts; None: all do.

    Raises:
        TrackUnavailable: it cannot be opened.
        TrackInvalid: it is damaged, or another recording's.
    """
    with TrackReader(path) as reader:
        reader.require_owner(owner)
        view = reader.load()
    return (view if last_row is None else view.until(last_row)).recent()


def store_track(writer: BundleWriter, view: TrackView, stream: str) -> Track | None:
    """Put a track's tables and thumbnails into a bundle; return what its manifest says of them.

    Args:
        writer: of the bundle.
        view: what the track holds.
        stream: the incident's; its history is sealed, or, where the track has none of it, that of every stream.
    """
    chosen = [index for index, name in view.streams.items() if name == stream] or _newest_streams(view)
    tables: list[TrackTable] = []
    names = list(view.layout.signals)
    for index in chosen:
        name = view.streams[index]
        tables.append(_row_table(name, view.rows[view.rows["stream"] == index], names))
        for level, slots in zip(LEVELS, view.intervals, strict=True):
            tables.append(_interval_table(name, level.seconds, slots[slots["stream"] == index], names))
    tables = [table for table in tables if table.level.rows][:MAX_TRACK_LEVELS]
    if not tables:
        return None
    content = encode(tables)
    while len(content) > MAX_TRACK_BYTES:  # only what many busy streams leave
        tables = tables[: len(tables) // 2]
        content = encode(tables)
    writer.add(_MEMBER, content, len(content))
    return Track(
        member=_MEMBER,
        signals=tuple(TrackSignal(name=name, unit=unit) for name, unit in view.layout.signals.items()),
        levels=tuple(table.level for table in tables),
        thumbnails=_thumbnails(writer, view, set(chosen)),
    )


def _newest_streams(view: TrackView) -> list[int]:
    newest: dict[int, int] = {}
    for slots, time in [(view.rows, "monotonic_ns"), *((each, "start_ns") for each in view.intervals)]:
        for stream, moment in zip(slots["stream"].tolist(), slots[time].tolist(), strict=True):
            newest[stream] = max(moment, newest.get(stream, moment))
    return sorted(sorted(newest, key=lambda stream: -newest[stream])[:MAX_SEALED_STREAMS])


def _row_table(stream: str, rows: Slots, names: Sequence[str]) -> TrackTable:
    rows = rows[rows["frame"] <= _MAX_FRAME]
    rows = rows[np.argsort(rows["monotonic_ns"], kind="stable")]
    columns = {each: rows[each].tolist() for each in ("time_ns", "monotonic_ns", "frame", "status", "digest")}
    columns["top_class"] = rows["top_class"].tolist()
    columns |= {name: rows["values"][:, number].tolist() for number, name in enumerate(names)}
    return TrackTable(_level(stream, 0, columns["time_ns"]), columns)


def _interval_table(stream: str, seconds: int, slots: Slots, names: Sequence[str]) -> TrackTable:
    slots = slots[slots["first_frame"] <= _MAX_FRAME]
    slots = slots[np.argsort(slots["start_ns"], kind="stable")]
    columns = {
        "time_ns": slots["time_ns"].tolist(),
        "monotonic_ns": slots["start_ns"].tolist(),
        "first_frame": slots["first_frame"].tolist(),
        "frames": slots["frames"].tolist(),
        "raised": slots["raised"].tolist(),
    }
    fields = dict(zip(PARTS, ("low", "mean", "high", "count"), strict=True))
    for number, name in enumerate(names):
        columns |= {f"{name}.{part}": slots[field][:, number].tolist() for part, field in fields.items()}
    return TrackTable(_level(stream, seconds, columns["time_ns"]), columns)


def _level(stream: str, seconds: int, times: Sequence[int]) -> TrackLevel:
    ends = (times[0], times[-1]) if times else (0, 0)
    return TrackLevel(stream=stream, seconds=seconds, rows=len(times), from_ns=ends[0], to_ns=ends[1])


def _thumbnails(writer: BundleWriter, view: TrackView, chosen: set[int]) -> tuple[TrackThumbnail, ...]:
    of_frame: dict[int, TrackThumbnail] = {}
    newest_first = zip(reversed(view.thumbnails.tolist()), reversed(view.files), strict=True)
    for (index, frame, time_ns, _), data in newest_first:
        if index in chosen and frame <= _MAX_FRAME and frame not in of_frame and len(of_frame) < MAX_SEALED_THUMBNAILS:
            # Without a suffix, unlike the thumbnails of the window's images: both may be of one frame.
            member = f"thumbnails/{frame:06x}.jpg"
            writer.add(member, data, len(data))
            of_frame[frame] = TrackThumbnail(member=member, stream=view.streams[index], frame=frame, time_ns=time_ns)
    return tuple(sorted(of_frame.values(), key=lambda each: (each.time_ns, each.frame)))
