"""An incident on a time line as MCAP, for Foxglove and ROS tools."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from replay.export.pictures import Screen
from replay.export.signals import detector_of, signal_series
from replay.export.source import CannotExport, Source
from replay.export.telling import picture_name, told
from replay.show.text import inert

__all__ = ["mcap"]

_NANOSECONDS = 10**9
_STAMP = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
#: Foxglove's own schemas, as far as they are filled in: foxglove.dev/docs/schemas. Then ours.
_SCHEMAS: dict[str, dict[str, Any]] = {
    "foxglove.CompressedImage": {
        "timestamp": _STAMP,
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
    "foxglove.Log": {
        "timestamp": _STAMP,
        "level": {"type": "integer"},
        "message": {"type": "string"},
        "name": {"type": "string"},
    },
    "flight_recorder.Frame": {"frame": {"type": "integer"}},
    "flight_recorder.Signals": {},
    "flight_recorder.Trigger": {"detector": {"type": "string"}},
}
_ERROR_LEVEL = 4

#: Topic, schema, time in nanoseconds since 1970, message.
_Message = tuple[str, str, int, dict[str, Any]]


def mcap(sources: Sequence[Source], out: Path) -> None:
    """Write images, frames, signals and triggers as JSON messages, a topic for each stream and kind.

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
            name: writer.register_schema(name, "jsonschema", json.dumps(_schema(name, properties)).encode())
            for name, properties in _SCHEMAS.items()
        }
        topics: dict[str, int] = {}
        for source in sources:
            for messages in (_signals(source), _frames(source), _triggers(source)):
                for topic, schema, time_ns, message in messages:
                    if topic not in topics:
                        topics[topic] = writer.register_channel(topic, "json", schemas[schema])
                    writer.add_message(topics[topic], time_ns, json.dumps(message).encode(), time_ns)
        writer.finish()  # type: ignore[no-untyped-call]  # the package leaves it so


def _schema(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"title": name, "type": "object", "properties": properties, "additionalProperties": True}


def _frames(source: Source) -> Iterator[_Message]:
    screen = Screen(source)
    for shot in source.shots():
        frame, place = shot.frame, f"/{shot.stream}"
        for image in shot.images:
            picture = screen.png(frame.stream, image)
            if picture is None:
                continue
            source.exported.images += 1
            data = base64.b64encode(picture).decode("ascii")
            message = {"timestamp": _stamp(frame.time_ns), "frame_id": shot.stream, "format": "png", "data": data}
            yield f"{place}/{picture_name(image)}", "foxglove.CompressedImage", frame.time_ns, message
        yield f"{place}/frame", "flight_recorder.Frame", frame.time_ns, told(shot)


def _signals(source: Source) -> Iterator[_Message]:
    """All signals of one moment in one message; Foxglove plots each by its path."""
    moments: dict[tuple[str, int], dict[str, Any]] = {}
    for stream, name, points in signal_series(source):
        for time_ns, number in points:
            moments.setdefault((stream, time_ns), {})[name] = number
    for (stream, time_ns), message in sorted(moments.items(), key=lambda moment: moment[0][1]):
        yield f"/{stream}/signals", "flight_recorder.Signals", time_ns, message


def _triggers(source: Source) -> Iterator[_Message]:
    for each in source.bundle.manifest.incident.triggers:
        log = {
            "timestamp": _stamp(each.time_ns),
            "level": _ERROR_LEVEL,
            "name": inert(each.kind, 80),
            "message": inert(each.reason, 1000),
        }
        yield "/triggers", "foxglove.Log", each.time_ns, log
        measured = {
            "bundle": source.bundle.id,
            "frame": each.frame,
            "kind": inert(each.kind, 80),
            "detector": inert(detector_of(each), 80),
            "value": each.value,
            "threshold": each.threshold,
            "parameters": each.parameters,
        }
        yield "/detectors", "flight_recorder.Trigger", each.time_ns, measured


def _stamp(time_ns: int) -> dict[str, int]:
    return {"sec": time_ns // _NANOSECONDS, "nsec": time_ns % _NANOSECONDS}
