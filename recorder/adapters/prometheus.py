"""Prometheus: the recorder's counters beside the service's own.

    from recorder.adapters.prometheus import expose
    expose(recorder)                      # into the default registry, which the service serves already

Counts are those of one process, read when Prometheus asks. Without ``prometheus_client`` nothing happens.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recorder.flight_recorder import FlightRecorder

__all__ = ["expose"]

_PREFIX = "flight_recorder"


def expose(recorder: FlightRecorder, registry: Any = None) -> bool:
    """Offer a recorder's `stats` to Prometheus; they go with the recorder. Say whether that was possible.

    Args:
        recorder: held weakly.
        registry: a `prometheus_client.CollectorRegistry`; None: the default one.

    Returns:
        False where ``prometheus_client`` is not installed: nothing was done.

    Raises:
        ValueError: a recorder is exposed in this registry already.
    """
    try:
        import prometheus_client
    except ImportError:
        return False
    (prometheus_client.REGISTRY if registry is None else registry).register(_Collector(recorder))
    return True


class _Collector:
    """What a registry asks for its metrics."""

    def __init__(self, recorder: FlightRecorder) -> None:
        self._recorder = weakref.ref(recorder)

    def describe(self) -> Iterator[Any]:
        """Name the metrics, so that a second collector of the same names is refused."""
        from recorder.stats import Stats

        return self._metrics(Stats(frames_recorded=0))

    def collect(self) -> Iterator[Any]:
        """Read the recorder's counters; none once it is gone."""
        recorder = self._recorder()
        return iter(()) if recorder is None else self._metrics(recorder.stats())

    def _metrics(self, stats: Any) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield CounterMetricFamily(f"{_PREFIX}_frames", "Frames recorded.", stats.frames_recorded)
        yield CounterMetricFamily(f"{_PREFIX}_incidents_sealed", "Incidents sealed.", stats.incidents_sealed)
        for name, help_text, counts in (
            ("frames_lost", "Frames, or parts of them, that were not kept.", stats.frames_lost),
            ("incidents_suppressed", "Incidents that were not sealed on purpose.", stats.incidents_suppressed),
            ("errors", "Faults of the recorder that were caught.", stats.errors),
        ):
            family = CounterMetricFamily(f"{_PREFIX}_{name}", help_text, labels=["reason"])
            for reason, number in counts.items():
                family.add_metric([reason], number)
            yield family
        for name, help_text, value in (
            ("ring_bytes", "Size of the ring; 0: nothing is recorded.", stats.ring_bytes),
            ("overhead_ratio", "Share of wall time spent in the recorder on calling threads.", stats.overhead_fraction),
            ("payload_interval", "Every n-th frame keeps its images and inputs.", stats.payload_interval),
            ("frame_interval", "Every n-th frame is recorded at all.", stats.frame_interval),
            ("switched_off", "1 where the recorder gave up after repeated faults.", float(bool(stats.switched_off))),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", help_text, value)
