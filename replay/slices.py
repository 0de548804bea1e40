"""Which camera, class, hour or metadata value carries an incident's shift: frames of bundles, by their labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from recorder.bundle.errors import BundleError
from recorder.bundle.manifest import Frame, Manifest
from recorder.bundle.reader import Bundle
from recorder.bundle.track import TrackTable
from recorder.bundle.values import MappingValue, RecordValue, ScalarValue, Value
from recorder.drift.scores import LOG_RESOLUTION, LOGARITHMIC, RELATIVE_RESOLUTION, RESOLUTION, WATCHED_SIGNALS
from recorder.drift.slices import MAX_FRAMES, SHIFTED_SIGMA, Ranking, Slice, rank_slices
from recorder.image_signals import IMAGE_SIGNALS, image_signals

__all__ = ["MOST_SAID", "Sliced", "finding", "sentences", "slice_incidents", "sliced"]

#: Frames before the onset by which a stream's normal is known.
MIN_BEFORE = 8
#: Frames to both sides of the onset that count as neither before nor since.
_GUARD = 2
#: Labels of one frame that are looked at.
_MAX_LABELS = 24
#: Nothing lies farther from normal than this, whatever a stranger's track says.
_FARTHEST = 1e6
#: Slices, and names of one, that are said in one place.
MOST_SAID = 3


@dataclass(slots=True)
class Sliced:
    """Frames of one or more incidents.

    Attributes:
        names: of the signals.
        sigmas: (n, m) of each run, in standard deviations of the run's frames before the onset.
        labels: of each run's frames.
        since: whether they are since the onset, of each run.
        left_out: incidents of which nothing can be said, by reason.
    """

    names: tuple[str, ...] = WATCHED_SIGNALS
    sigmas: list[npt.NDArray[np.float64]] = field(default_factory=list)
    labels: list[list[dict[str, object]]] = field(default_factory=list)
    since: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    _seen: set[tuple[str, int, int]] = field(default_factory=set)
    _identities: list[list[tuple[str, int, int]]] = field(default_factory=list)

    def add(self, manifest: Manifest, tables: Iterable[TrackTable]) -> None:
        """Take in an incident; frames that another one had already are left out."""
        onset = manifest.incident.onset
        rows = [table for table in tables if not table.level.seconds and table.level.rows]
        own = [table for table in rows if table.level.stream == manifest.incident.stream]
        if onset is None:
            self._leave_out("no trigger names a frame since when it is")
        elif not rows:
            self._leave_out("its track holds no frames: record with history_seconds above 0")
        elif not sum(self._add_run(manifest, table, onset) for table in own or rows):
            self._leave_out(f"fewer than {MIN_BEFORE} frames before the onset, or none since, that no other has")

    def ranking(self) -> Ranking:
        """Rank the slices of all that was taken in."""
        if not self.sigmas:
            return Ranking((), 0, 0)
        sigmas = np.concatenate(self.sigmas)
        kept = np.flatnonzero(np.isfinite(sigmas).any(axis=0))
        frames = [labels for run in self.labels for labels in run]
        keys = list(dict.fromkeys(key for labels in frames for key in labels))
        runs = np.repeat(np.arange(len(self.sigmas)), [len(run) for run in self.sigmas])
        return rank_slices(
            sigmas[:, kept],
            [self.names[number] for number in kept.tolist()],
            {key: [labels.get(key) for labels in frames] for key in keys},
            np.concatenate(self.since),
            runs,
        )

    def _forget_oldest(self) -> None:
        """Only the newest frames are compared: a sink of years has more than fit into memory."""
        while sum(map(len, self.labels[1:])) >= MAX_FRAMES:
            for each in (self.sigmas, self.labels, self.since):
                del each[0]
            self._seen.difference_update(self._identities.pop(0))
            self._leave_out(f"older than the newest {MAX_FRAMES} frames")

    def _leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def _add_run(self, manifest: Manifest, table: TrackTable, onset: int) -> bool:
        stream, columns = table.level.stream, table.columns
        identities = [
            (stream, int(frame), int(time)) for frame, time in zip(columns["frame"], columns["time_ns"], strict=True)
        ]
        # To a frame or two the onset is not known, and one good frame among the bad would hide how alike these are.
        first = next((number for number, each in enumerate(identities) if each[1] >= onset), len(identities))
        sure = [number for number in range(len(identities)) if not first - _GUARD <= number < first + _GUARD]
        fresh = [number for number in sure if identities[number] not in self._seen]
        since = np.array([number >= first for number in fresh], bool)
        if (~since).sum() < MIN_BEFORE or not since.any():
            return False
        self._seen.update(identities)
        self._identities.append(identities)
        values = np.full((len(fresh), len(self.names)), np.nan)
        for place, name in enumerate(self.names):
            if name in columns:
                values[:, place] = np.asarray(columns[name], np.float64)[fresh]
        told = {frame.id: _labels_of(frame) for frame in manifest.frames if frame.stream == stream}
        self.sigmas.append(_sigmas(values, self.names, ~since))
        self.since.append(since)
        classes = columns["top_class"]
        self.labels.append(
            [
                {
                    "stream": stream or None,
                    "class": str(int(classes[number])) if classes[number] >= 0 else None,
                    "hour": _hour(identities[number][2]),
                    **told.get(identities[number][1], {}),
                }
                for number in fresh
            ]
        )
        self._forget_oldest()
        return True


def slice_incidents(bundle: Bundle, into: Sliced) -> None:
    """Take in a bundle: its track, or where it has none the images of its window, measured here.

    Raises:
        BundleInvalid: a part that is read is not what the manifest says.
        BundleUnavailable: it could not be read.
    """
    into.add(bundle.manifest, bundle.track() or _measured(bundle))


def sliced(found: Slice) -> str:
    """Name a slice."""
    return f"{found.key}={found.value}"


def sentences(found: Slice) -> list[str]:
    """Say what was found of a slice that carries the shift; the first sentence stands alone."""
    said = [
        f"{sliced(found)} carries the shift: {found.shifted} of {found.frames} frames, {found.signal} "
        f"{found.effect:+.1f} sigma against the rest",
        f"of the rest {found.rest_shifted} of {found.rest} beyond {SHIFTED_SIGMA:g} sigma; at least "
        f"{found.at_least:.1f} sigma, its size and {found.looked_at} comparisons allowed for",
    ]
    if not found.before:
        said.append("it was not there before the onset: it may be unlike the rest at any time")
    if found.also:
        said.append(f"the same frames: {', '.join(found.also[:MOST_SAID])}")
    return said


def finding(found: Slice) -> dict[str, Any]:
    """The contract's form."""
    evidence = {
        "key": found.key,
        "value": found.value,
        "also": list(found.also),
        "frames": found.frames,
        "frames_before": found.before,
        "shifted": found.shifted,
        "rest_frames": found.rest,
        "rest_shifted": found.rest_shifted,
        "signal": found.signal,
        "moved_sigma": round(found.moved, 3),
        "effect_sigma": round(found.effect, 3),
        "at_least_sigma": round(found.at_least, 3),
        "p": found.p,
        "independent_frames": round(found.worth, 1),
    }
    return {"name": sliced(found), "passed": not found.carries, "evidence": evidence}


def _sigmas(values: npt.NDArray[np.float64], names: tuple[str, ...], before: npt.NDArray[np.bool_]) -> Any:
    """Values in standard deviations of those before; what means nothing to anyone is no deviation."""
    scores = np.where(np.isfinite(values), values, np.nan)
    for number, name in enumerate(names):
        if name in LOGARITHMIC:
            scores[:, number] = np.log(np.maximum(scores[:, number], 1e-9))
    there = np.isfinite(scores) & before[:, None]
    count = there.sum(axis=0)
    mean = np.where(there, scores, 0.0).sum(axis=0) / np.maximum(count, 1)
    spread = np.sqrt(np.where(there, (scores - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count, 1))
    least = [
        LOG_RESOLUTION if name in LOGARITHMIC else RESOLUTION.get(name, RELATIVE_RESOLUTION * abs(each))
        for name, each in zip(names, mean.tolist(), strict=True)
    ]
    sigmas = np.clip((scores - mean) / np.maximum(spread, np.maximum(least, 1e-9)), -_FARTHEST, _FARTHEST)
    return np.where(count >= MIN_BEFORE, sigmas, np.nan)


def _labels_of(frame: Frame) -> dict[str, object]:
    """Metadata, and what of the answer is a name."""
    told: list[tuple[str, object]] = []
    told.extend(list(frame.metadata.items())[:_MAX_LABELS])
    told += [(f"answer.{key}" if key else "answer", value) for key, value in _names(frame.output)][:_MAX_LABELS]
    return {key[:_FIT]: value[:_FIT] if isinstance(value, str) else value for key, value in told if _is_label(value)}


#: Longer texts are no names.
_FIT = 100


def _names(output: Value | None) -> list[tuple[str, object]]:
    match output:
        case ScalarValue(value=str() | bool() | int() as plain):
            return [("", plain)]
        case MappingValue() | RecordValue():
            fields: Mapping[Any, Value] = dict(output.items if isinstance(output, MappingValue) else output.fields)
            return [
                (str(key), each.value)
                for key, each in fields.items()
                if isinstance(each, ScalarValue) and isinstance(each.value, str | bool | int)
            ]
    return []


def _is_label(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | bool | int)


def _hour(time_ns: int) -> str | None:
    try:
        return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%H}:00 UTC"
    except (OverflowError, ValueError, OSError):
        return None


def _measured(bundle: Bundle) -> list[TrackTable]:
    """The window's images, measured as the sealer does for a track."""
    from recorder.bundle.manifest import TrackLevel

    rows: dict[str, list[tuple[Frame, npt.NDArray[np.float32]]]] = {}
    before: dict[str, Any] = {}
    for frame in bundle.manifest.frames:
        if not frame.images:
            continue
        try:
            measured = image_signals(bundle.pixels(frame.images[0]), before.get(frame.stream))
        except (BundleError, ValueError):
            continue
        before[frame.stream] = measured.small
        rows.setdefault(frame.stream, []).append((frame, measured.values))
    tables = []
    for stream, measured_rows in rows.items():
        frames = [frame for frame, _ in measured_rows]
        columns: dict[str, Any] = {
            "frame": [frame.id for frame in frames],
            "time_ns": [frame.time_ns for frame in frames],
            "top_class": [-1] * len(frames),
        }
        columns |= {name: [float(row[n]) for _, row in measured_rows] for n, name in enumerate(IMAGE_SIGNALS)}
        level = TrackLevel(
            stream=stream, seconds=0, rows=len(frames), from_ns=frames[0].time_ns, to_ns=frames[-1].time_ns
        )
        tables.append(TrackTable(level, columns))
    return tables
