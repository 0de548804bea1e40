"""Counters for Prometheus, spans for OpenTelemetry; and nothing at all where their packages are missing."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import prometheus_client
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from recorder import FlightRecorder
from recorder.adapters import opentelemetry as adapter
from recorder.adapters.prometheus import expose
from recorder.bundle import Bundle
from recorder.frame import frame_sources
from tests.bundles import small_bundle

IMAGE = np.zeros((4, 4), np.uint8)


@pytest.fixture
def traced() -> Iterator[None]:
    """Frames join traces for one test."""
    assert adapter.join_traces() and adapter.join_traces()
    yield
    frame_sources.clear()


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """What the process's provider exported; a process has one provider for good."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_the_recorders_counters_are_read_when_prometheus_asks(tmp_path: Path) -> None:
    registry = prometheus_client.CollectorRegistry()
    with FlightRecorder(sink=str(tmp_path), max_bytes=2**23, overhead_budget=1) as recorder:
        assert expose(recorder, registry)
        with pytest.raises(ValueError, match="flight_recorder_frames"):
            expose(recorder, registry)
        for _ in range(3):
            with recorder.frame(image=IMAGE):
                pass
        assert registry.get_sample_value("flight_recorder_frames_total") == 3.0
        assert recorder.trigger("look").wait(120).path
        text = prometheus_client.generate_latest(registry).decode()
        assert "flight_recorder_incidents_sealed_total 1.0" in text and "flight_recorder_ring_bytes" in text
        assert "flight_recorder_switched_off 0.0" in text
    del recorder
    gc.collect()
    assert "flight_recorder_frames_total" not in prometheus_client.generate_latest(registry).decode()


@pytest.mark.usefixtures("traced")
def test_frames_know_their_trace_and_the_incident_links_to_it(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    with FlightRecorder(sink=str(tmp_path), max_bytes=2**23, overhead_budget=1) as recorder:
        with recorder.frame(image=IMAGE):  # outside of any span
            pass
        tracer = trace.get_tracer("test")
        with tracer.start_as_current_span("request") as span, recorder.frame(image=IMAGE, span_id="mine"):
            recorder.trigger("look")
        context = span.get_span_context()
        with tracer.start_as_current_span("request") as later, recorder.frame(image=IMAGE):
            handle = recorder.trigger("look again")
        location = handle.wait(120).path
        assert location is not None and recorder.flush(120)
    with Bundle.open(location) as bundle:
        manifest = bundle.manifest
        plain, own, named = [frame.metadata for frame in manifest.frames]
    assert "trace_id" not in plain
    assert own == {"trace_id": f"{context.trace_id:032x}", "span_id": "mine"}
    assert named["span_id"] == f"{later.get_span_context().span_id:016x}"
    spans.clear()
    adapter.announce(str(location))
    [sent] = spans.get_finished_spans()
    assert sent.name == "vision.incident" and sent.attributes is not None
    assert sent.attributes["vision.incident.id"] == manifest.incident.id
    assert sent.attributes["vision.incident.trigger"] == "manual"
    assert (sent.end_time or 0) - (sent.start_time or 0) == manifest.frames[-1].time_ns - manifest.frames[0].time_ns
    assert sent.links == ()  # the first trigger's frame has an id that is none
    assert sent.attributes["vision.incident.trace_id"] == own["trace_id"]


@pytest.mark.parametrize("taken", [True, False])
def test_what_no_collector_took_is_said(taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sealer counts what `announce` raises; the SDK would only log it."""
    sent: list[Any] = []

    class Exporter:
        def __init__(self, timeout: float | None) -> None:
            assert timeout == 3

        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            sent.extend(spans)
            return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    place = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, place, SimpleNamespace(OTLPSpanExporter=Exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9")
    path = small_bundle(tmp_path / "one.zst")
    if taken:
        adapter.announce(str(path))
    else:
        with pytest.raises(ConnectionError, match="no collector took the span"):
            adapter.announce(str(path))
    assert [span.name for span in sent] == ["vision.incident"]


def test_ids_that_are_none_are_no_link() -> None:
    whole = {"trace_id": "ab" * 16, "span_id": "cd" * 8}
    assert adapter._context_of(whole).span_id == int("cd" * 8, 16)
    for wrong in ({}, whole | {"span_id": "zz" * 8}, whole | {"trace_id": 7}, whole | {"trace_id": "0" * 32}):
        assert adapter._context_of(wrong) is None


def test_a_source_that_raises_is_counted_and_costs_the_host_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        raise RuntimeError("no tracer")

    frame_sources.append(broken)
    try:
        with FlightRecorder(sink=str(tmp_path), max_bytes=2**23, overhead_budget=1) as recorder:
            with recorder.frame(image=IMAGE, camera="a") as frame:
                assert frame.metadata == {"camera": "a"}
            assert recorder.stats().errors == {"frame-source": 1}
    finally:
        frame_sources.clear()


def test_without_their_packages_the_adapters_do_nothing() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("opentelemetry", "prometheus_client"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from recorder.adapters import opentelemetry, prometheus
assert opentelemetry.join_traces() is False
assert opentelemetry.announce("nowhere.zst") is None
assert prometheus.expose(object()) is False
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
