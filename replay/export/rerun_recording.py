"""An incident on a time line as RRD, for Rerun's viewer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from recorder.bundle.manifest import Image
from replay.export.names import plain_name
from replay.export.pictures import Screen
from replay.export.placing import placed_boxes, placed_instances, placed_mask
from replay.export.signals import detector_of, signal_series
from replay.export.source import CannotExport, Shot, Source
from replay.export.telling import picture_name, told
from replay.show.text import inert

if TYPE_CHECKING:
    import rerun

    from replay.compare.boxes import Boxes

__all__ = ["rrd"]

_NANOSECONDS = 10**9
_PIPE_BYTES = 2**16

#: What makes the SDK do something else than write our file. With TELEMETRY_ENABLED and an OTLP endpoint its import
#: alone connects to that endpoint and sends spans and metrics; RERUN=off writes nothing; the last writes elsewhere.
#: Its usage analytics belong to the viewer: a recording that is saved to a file neither reads nor sends them, and no
#: variable is known to switch them (`rerun analytics disable` does). rerun-sdk 0.41, seen with strace.
_ENVIRONMENT = {"TELEMETRY_ENABLED": "false", "RERUN": "on", "_RERUN_TEST_FORCE_SAVE": None}


def rrd(sources: Sequence[Source], out: Path) -> None:
    """Write pictures, boxes, masks, confidence, latency and signals by frame and time, and triggers as a log.

    Raises:
        CannotExport: the SDK is not installed.
        FileExistsError: something stands there.
        OSError: it cannot be written.
    """
    with _quiet():
        try:
            import rerun
        except ImportError as error:
            raise CannotExport("RRD needs Rerun's SDK: pip install 'vision-flight-recorder[export]'") from error
        out.touch(exist_ok=False)
        ids = [source.bundle.id for source in sources]
        name = ids[0] if len(ids) == 1 else hashlib.sha256("".join(ids).encode()).hexdigest()
        recording = rerun.RecordingStream("vision-flight-recorder", recording_id=name)
        with _saved(recording, out):
            for source in sources:
                prefix = "" if len(sources) == 1 else f"{source.bundle.id[:12]}/"
                _Writer(rerun, recording, source, prefix).write()


@contextlib.contextmanager
def _saved(recording: rerun.RecordingStream, out: Path) -> Iterator[None]:
    """Save a recording by way of a pipe: the SDK never comes back from a disk that is full (rerun-sdk 0.41).

    Raises:
        OSError: the file cannot be written; said when all is logged.
    """
    failed: list[OSError] = []

    def copy(pipe: IO[bytes], file: IO[bytes]) -> None:
        while data := pipe.read(_PIPE_BYTES):
            try:
                while data and not failed:
                    data = data[file.write(data) :]
            except OSError as error:  # and read on: who writes to the pipe must not wait
                failed.append(error)

    with contextlib.ExitStack() as stack:
        name = Path(stack.enter_context(tempfile.TemporaryDirectory()), "pipe")
        os.mkfifo(name)
        file = stack.enter_context(out.open("wb", buffering=0))
        pipe = stack.enter_context(os.fdopen(os.open(name, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0))
        recording.save(name)
        os.set_blocking(pipe.fileno(), True)
        copier = threading.Thread(target=copy, args=(pipe, file), daemon=True)
        copier.start()
        try:
            yield
            recording.flush()
        finally:
            recording.disconnect()
            copier.join()
    if failed:
        raise failed[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The process's environment with `_ENVIRONMENT`, put back afterwards."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    try:
        _set(_ENVIRONMENT)
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class _Writer:
    """One incident's part of a recording."""

    def __init__(self, rr: Any, recording: rerun.RecordingStream, source: Source, prefix: str) -> None:
        self._rr = rr
        self._recording = recording
        self._source = source
        self._prefix = prefix
        self._drawn: set[str] = set()  #: entities that show boxes or a mask until they are told otherwise

    def write(self) -> None:
        """Write all of it."""
        screen = Screen(self._source)
        for shot in self._source.shots():
            self._at(shot.frame.time_ns, shot.frame.id)
            place = f"{self._prefix}{shot.stream}"
            for number, image in enumerate(shot.images):
                entity = f"{place}/{picture_name(image)}"
                picture = screen.png(shot.frame.stream, image)
                if picture is None:
                    continue
                self._source.exported.images += 1
                self._log(entity, self._rr.EncodedImage(contents=picture, media_type="image/png"))
                if not number:
                    self._decided(shot, image, entity)
            confidence = told(shot)["confidence"]
            if confidence is not None:
                self._log(f"{place}/confidence", self._rr.Scalars([confidence]))
            if shot.frame.latency_seconds is not None:
                self._log(f"{place}/latency_seconds", self._rr.Scalars([shot.frame.latency_seconds]))
            self._log(f"{place}/frame", self._rr.TextDocument(json.dumps(told(shot), indent=1)))
        self._signals()
        self._triggers()

    def _log(self, entity: str, what: Any) -> None:
        self._recording.log(entity, what)

    def _at(self, time_ns: int, frame: int | None) -> None:
        self._recording.reset_time()
        self._recording.set_time("time", timestamp=np.datetime64(time_ns, "ns"))
        if frame is not None:
            self._recording.set_time("frame", sequence=frame)

    def _decided(self, shot: Shot, image: Image, entity: str) -> None:
        """Boxes and mask over a picture; what an earlier frame showed is taken away."""
        options, shown = shot.source.options, {}
        boxes = placed_boxes(shot, image)
        if boxes is not None:
            sure = boxes.above(options.least_score)
            self._source.exported.left_out[f"box below the score {options.least_score:g}"] += len(boxes) - len(sure)
            if len(sure):
                names = [options.names.text(options.names.key_of(int(label))) for label in sure.labels.tolist()]
                labels = [
                    f"{'class ' if name.isdigit() else ''}{inert(name, 60)} {score:.2f}"
                    for name, score in zip(names, sure.scores.tolist(), strict=True)
                ]
                form = self._rr.Box2DFormat.XYXY
                shown["boxes"] = self._rr.Boxes2D(array=sure.corners, array_format=form, labels=labels)
                shown |= self._instances(shot, image, sure)
        placed = placed_mask(shot, image)
        if placed is not None:
            shown["mask"] = self._rr.SegmentationImage(np.clip(placed[0], 0, 2**16 - 1).astype(np.uint16), opacity=0.5)
        for kind in ("boxes", "mask"):
            where = f"{entity}/{kind}"
            if kind in shown:
                self._log(where, shown[kind])
                self._drawn.add(where)
            elif where in self._drawn:
                self._log(where, self._rr.Clear(recursive=False))
                self._drawn.discard(where)

    def _instances(self, shot: Shot, image: Image, boxes: Boxes) -> dict[str, Any]:
        """The masks of boxes in one picture, numbered from 1 by how sure they are; the surer lies on top."""
        placed = None if boxes.masks is None else placed_instances(shot, image, boxes.masks)
        if placed is None:
            return {}
        numbers = np.zeros((image.height, image.width), np.uint16)
        for number, inside in enumerate(placed, 1):
            numbers[inside & (numbers == 0)] = number
        return {"mask": self._rr.SegmentationImage(numbers, opacity=0.5)}

    def _signals(self) -> None:
        for stream, name, points in signal_series(self._source):
            times = np.asarray([time_ns for time_ns, _ in points], dtype="datetime64[ns]")
            self._recording.send_columns(
                f"{self._prefix}{stream}/signals/{name}",
                indexes=[self._rr.TimeColumn("time", timestamp=times)],
                columns=self._rr.Scalars.columns(scalars=[number for _, number in points]),
            )

    def _triggers(self) -> None:
        for trigger in self._source.bundle.manifest.incident.triggers:
            self._at(trigger.time_ns, trigger.frame)
            text = f"{inert(trigger.kind, 80)}: {inert(trigger.reason, 1000)}"
            self._log(f"{self._prefix}triggers", self._rr.TextLog(text, level=self._rr.TextLogLevel.ERROR))
            place = f"{self._prefix}detectors/{plain_name(detector_of(trigger), ())}"
            for name, number in (("value", trigger.value), ("threshold", trigger.threshold)):
                if number is not None:
                    self._log(f"{place}/{name}", self._rr.Scalars([float(number)]))
