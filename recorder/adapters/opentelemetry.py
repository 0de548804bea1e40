"""OpenTelemetry: frames know their trace, and a sealed incident stands in it.

    from recorder.adapters import opentelemetry
    recorder = FlightRecorder(notify="recorder.adapters.opentelemetry:announce")
    opentelemetry.join_traces()

`join_traces` gives every frame the ids of the span that is current when it begins; `announce` runs in the sealer's
process and sends one span per incident, linked to the span of the frame that failed. Without the packages of
OpenTelemetry both do nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recorder.frame import frame_sources

if TYPE_CHECKING:
    from recorder.bundle.manifest import Manifest

__all__ = ["announce", "join_traces"]

_HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}")
_NAME = "vision-flight-recorder"
#: What the sealer's process exports to.
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
#: Seconds for one span, tries included, unless the environment says otherwise: the sealer waits, and rings go on.
_MOST_SECONDS = 3
#: An id of the service's own that is longer is none.
_MAX_ID_CHARS = 128


def join_traces() -> bool:
    """Give frames ``trace_id`` and ``span_id`` (hexadecimal) as metadata, unless they have them. May be called again.

    It costs a look at a context variable per frame.

    Returns:
        False where ``opentelemetry-api`` is not installed: nothing was done.
    """
    try:
        import opentelemetry.trace  # noqa: F401
    except ImportError:
        return False
    if _current_span not in frame_sources:
        frame_sources.append(_current_span)
    return True


def _current_span() -> Mapping[str, object] | None:
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def announce(location: str) -> None:
    """Send a span for a sealed incident: for ``FlightRecorder(notify=…)``, which calls it in the sealer's process.

    The span is called "vision.incident", lasts from the first to the last frame of the window, and links to the span
    whose ids the frame of the trigger has as metadata. Attributes: ``vision.incident.id``, ``.bundle`` (the location),
    ``.trigger`` (its kind), ``.severity``, ``.stream``, ``.cause`` where one is named, ``.frames``, and ``.trace_id``,
    the frame's own, which need not be one of OpenTelemetry.

    Args:
        location: of the bundle, a path or an s3:// address.

    Raises:
        Exception: what opening the bundle raises; ConnectionError where no collector took the span in three seconds
            (OTEL_EXPORTER_OTLP_TIMEOUT). The sealer counts it as "notify-failed".
    """
    try:
        from opentelemetry import trace
    except ImportError:
        return
    attributes: dict[str, Any] = {"vision.incident.bundle": location}
    begun = ended = time.time_ns()
    link = None
    if not location.endswith(".age"):  # the sealer cannot read what it encrypted
        manifest = _manifest(location)
        incident = manifest.incident
        first = incident.triggers[0] if incident.triggers else None
        attributes |= {
            "vision.incident.id": incident.id,
            "vision.incident.trigger": first.kind if first is not None else "",
            "vision.incident.severity": incident.severity,
            "vision.incident.stream": incident.stream,
            "vision.incident.frames": len(manifest.frames),
        }
        if incident.cause is not None and isinstance(incident.cause.get("cause"), str):
            attributes["vision.incident.cause"] = incident.cause["cause"]
        times = [frame.time_ns for frame in manifest.frames] or [incident.opened_ns]
        begun, ended = min(times), max(times)
        failed = next((each for each in manifest.frames if first is not None and each.id == first.frame), None)
        metadata = {} if failed is None else failed.metadata
        own = metadata.get("trace_id")
        if isinstance(own, str) and 0 < len(own) <= _MAX_ID_CHARS:
            attributes["vision.incident.trace_id"] = own
        link = _context_of(metadata)
    span = (
        _provider()
        .get_tracer(_NAME)
        .start_span(
            "vision.incident",
            start_time=begun,
            attributes=attributes,
            links=[trace.Link(link)] if link is not None else [],
        )
    )
    span.end(ended)


def _manifest(location: str) -> Manifest:
    from recorder.bundle import Bundle
    from recorder.sinks.s3.address import is_s3

    if is_s3(location):
        from recorder.sinks.s3.source import S3Source

        with Bundle.open(S3Source(location)) as bundle:
            return bundle.manifest
    with Bundle.open(location) as bundle:
        return bundle.manifest


def _context_of(metadata: Mapping[str, Any]) -> Any:
    """The span that metadata names; None for ids that are none, which anybody may have sent."""
    from opentelemetry import trace

    trace_id, span_id = metadata.get("trace_id"), metadata.get("span_id")
    if not (isinstance(trace_id, str) and isinstance(span_id, str)):
        return None
    if len(trace_id) != 32 or len(span_id) != 16 or not (_HEX.fullmatch(trace_id) and _HEX.fullmatch(span_id)):
        return None
    context = trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True)
    return context if context.is_valid else None


def _provider() -> Any:
    """The process's provider; in the sealer's, which has none, one that exports as the environment says."""
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if not isinstance(provider, trace.ProxyTracerProvider) or not any(name in os.environ for name in _ENDPOINTS):
        return provider
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult

    timeout = None if any(name in os.environ for name in _TIMEOUTS) else _MOST_SECONDS
    exporter = OTLPSpanExporter(timeout=timeout)

    class Sending(SpanProcessor):
        """Sends at once, and says so where it could not: the SDK's own processors log it and go on."""

        def on_end(self, span: ReadableSpan) -> None:
            if exporter.export((span,)) is not SpanExportResult.SUCCESS:
                raise ConnectionError("no collector took the span; see OTEL_EXPORTER_OTLP_ENDPOINT")

    made = TracerProvider(resource=Resource.create())
    made.add_span_processor(Sending())
    trace.set_tracer_provider(made)
    return made
