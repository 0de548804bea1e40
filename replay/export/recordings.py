"""An incident on a time line: MCAP for Foxglove and ROS tools, RRD for Rerun."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.bundle.manifest import Frame
from replay.export.source import CannotExport, Shot, Source, to_eight_bits
from replay.show.text import inert

__all__ = ["mcap", "rrd"]

_NANOSECONDS = 10**9
#: Foxglove's own schemas, as far as they are filled in: foxglove.dev/docs/schemas.
_IMAGE = {
    "title": "foxglove.CompressedImage",
    "type": "object",
    "properties": {
        "timestamp": {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}},
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}
_LOG = {
    "title": "foxglove.Log",
    "type": "object",
    "properties": {
        "timestamp": {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}},
        "level": {"type": "integer"},
        "message": {"type": "string"},
        "name": {"type": "string"},
    },
}
_FRAME = {"title": "flight_recorder.Frame", "type": "object", "additionalProperties": True}
_ERROR_LEVEL = 4


def mcap(source: Source, out: Path) -> None:
    """Write a file of images, frames and triggers as JSON messages, a topic for each stream.

    Raises:
        CannotExport: the package is not installed.
    """
    try:
        from mcap.writer import Writer
    except ImportError as error:
        raise CannotExport("MCAP needs its package: pip install 'vision-flight-recorder[export]'") from error
    with out.open("xb") as file:
        writer = Writer(file)
        writer.start(library="vision-flight-recorder")
        schemas = {
            name: writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
            for name, schema in ((str(each["title"]), each) for each in (_IMAGE, _LOG, _FRAME))
        }
        topics: dict[str, int] = {}

        def send(topic: str, schema: str, time_ns: int, message: Mapping[str, Any]) -> None:
            if topic not in topics:
                topics[topic] = writer.register_channel(topic, "json", schemas[schema])
            writer.add_message(topics[topic], time_ns, json.dumps(message).encode(), time_ns)

        for shot in source.shots():
            frame = shot.frame
            place = f"/{_name(frame)}"
            picture = _png(source, shot)
            if picture is not None:
                image = {"timestamp": _stamp(frame.time_ns), "frame_id": _name(frame), "format": "png"}
                send(f"{place}/image", "foxglove.CompressedImage", frame.time_ns, image | {"data": _base64(picture)})
            send(f"{place}/frame", "flight_recorder.Frame", frame.time_ns, _told(shot))
        for trigger in source.bundle.manifest.incident.triggers:
            message = {
                "timestamp": _stamp(trigger.time_ns),
                "level": _ERROR_LEVEL,
                "name": inert(trigger.kind, 80),
                "message": inert(trigger.reason, 1000),
            }
            send("/triggers", "foxglove.Log", trigger.time_ns, message)
        writer.finish()  # type: ignore[no-untyped-call]  # the package leaves it so


def rrd(source: Source, out: Path) -> None:
    """Write a Rerun recording: images, boxes, confidence and latency by frame and time, triggers as a log.

    Raises:
        CannotExport: the SDK is not installed.
    """
    os.environ.setdefault("RERUN_ANALYTICS", "0")  # it would else write to the home directory and call home
    try:
        import rerun as rr
    except ImportError as error:
        raise CannotExport("RRD needs Rerun's SDK: pip install 'vision-flight-recorder[export]'") from error
    if out.exists():
        raise FileExistsError(17, "File exists", str(out))
    recording = rr.RecordingStream("vision-flight-recorder", recording_id=source.bundle.id)
    recording.save(out)
    for shot in source.shots():
        frame, reading, place = shot.frame, shot.reading, _name(shot.frame)
        recording.set_time("frame", sequence=frame.id)
        recording.set_time("time", timestamp=frame.time_ns / _NANOSECONDS)
        picture = _png(source, shot)
        if picture is not None:
            recording.log(f"{place}/image", rr.EncodedImage(contents=picture, media_type="image/png"))
        if reading is not None and reading.boxes is not None and reading.labels is not None:
            labels = [f"class {int(label)}" for label in reading.labels.tolist()]
            boxes = rr.Boxes2D(array=reading.boxes, array_format=rr.Box2DFormat.XYXY, labels=labels)
            recording.log(f"{place}/image/boxes", boxes)
        if reading is not None and reading.confidence is not None:
            recording.log(f"{place}/confidence", rr.Scalars([reading.confidence]))
        if frame.latency_seconds is not None:
            recording.log(f"{place}/latency", rr.Scalars([frame.latency_seconds]))
        recording.log(f"{place}/frame", rr.TextDocument(json.dumps(_told(shot), indent=1)))
    for trigger in source.bundle.manifest.incident.triggers:
        recording.reset_time()
        if trigger.frame is not None:
            recording.set_time("frame", sequence=trigger.frame)
        recording.set_time("time", timestamp=trigger.time_ns / _NANOSECONDS)
        text = f"{inert(trigger.kind, 80)}: {inert(trigger.reason, 1000)}"
        recording.log("triggers", rr.TextLog(text, level=rr.TextLogLevel.ERROR))
    recording.flush()
    recording.disconnect()


def _name(frame: Frame) -> str:
    """The stream as a part of a path."""
    return (
        "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in inert(frame.stream, 80)) or "frames"
    )


def _png(source: Source, shot: Shot) -> bytes | None:
    pixels = source.pixels(shot.image) if shot.image is not None else None
    if pixels is None:
        return None
    file = io.BytesIO()
    to_eight_bits(pixels).save(file, "PNG")
    return file.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _stamp(time_ns: int) -> dict[str, int]:
    return {"sec": time_ns // _NANOSECONDS, "nsec": time_ns % _NANOSECONDS}


def _told(shot: Shot) -> dict[str, Any]:
    """What is known of a frame besides its picture."""
    frame, reading = shot.frame, shot.reading
    return {
        "frame": frame.id,
        "stream": inert(frame.stream, 200),
        "status": frame.status,
        "latency_seconds": frame.latency_seconds,
        "decision": None if reading is None else reading.label,
        "confidence": None if reading is None else reading.confidence,
        "metadata": frame.metadata,
    }
