"""What Prometheus reads, from counts as the proxy keeps them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.counters import SeriesCounters
from gateway.metrics import Metrics
from gateway.plans import PlanBook


class Counts:
    """A proxy that has counted."""

    def __init__(self, *series: SeriesCounters) -> None:
        self.in_flight = 2
        self.connections = 5
        self.refused = {400: 3}
        self._series = series

    def counters(self) -> tuple[SeriesCounters, ...]:
        return self._series


def samples(counts: Counts) -> dict[tuple[str, str], float]:
    metrics = Metrics(counts, PlanBook(), dict, lambda: 0.0, "worker-1")
    body, content_type = metrics.render("")
    assert content_type.startswith("text/plain")
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_histograms_are_cumulative_in_seconds() -> None:
    series = SeriesCounters("rag", "stable", "A", "ok")
    for latency_us in (400, 1_000, 1_001, 90_000_000):
        series.add(latency_us, 0, 0)
    found = samples(Counts(series))
    name = "http_server_request_duration_seconds"
    assert found[f"{name}_bucket", "0.0005"] == 1
    assert found[f"{name}_bucket", "0.001"] == 2
    assert found[f"{name}_bucket", "60.0"] == 3
    assert found[f"{name}_bucket", "+Inf"] == 4
    assert found[f"{name}_count", ""] == 4
    assert found[f"{name}_sum", ""] == 90.002401


def test_a_series_that_counted_nothing_is_not_shown() -> None:
    found = samples(Counts(SeriesCounters("rag", "stable", "A", "ok")))
    assert not any(name.startswith("http_server") for name, _ in found)
    assert found["gateway_in_flight", ""] == 2
    assert found["gateway_client_connections", ""] == 5
    assert found["gateway_requests_refused_total", ""] == 3
