"""What Prometheus reads, from counts as the proxy keeps them."""

from __future__ import annotations

import os
from typing import ClassVar

from prometheus_client.parser import text_string_to_metric_families

from gateway.counters import LATENCY_BOUNDS_US, Histogram
from gateway.counts import Counts, HistogramValue, SeriesValue
from gateway.metrics import Metrics
from gateway.plans import PlanBook
from mlops.contracts.api import UpstreamHealth


class Crew:
    """Two workers, one of which is this process and one of which is being replaced."""

    restarts = (0, 4)

    class Member:
        index = 0
        pid = os.getpid()
        name = "0-abc"

    members: ClassVar = {0: Member()}


def series(latencies_us: tuple[int, ...]) -> SeriesValue:
    histogram = Histogram(LATENCY_BOUNDS_US)
    for each_us in latencies_us:
        histogram.add(each_us)
    value = HistogramValue(
        bounds_us=histogram.bounds_us, counts=tuple(histogram.counts), sum_us=histogram.sum_us
    )
    return SeriesValue(
        route="rag",
        arm="stable",
        version="A",
        outcome="ok",
        latency=value,
        first_byte=value,
        own=value,
        request_bytes=0,
        response_bytes=0,
    )


def samples(counts: Counts) -> dict[tuple[str, str], float]:
    metrics = Metrics(PlanBook(), Crew(), lambda: 0.0)
    body, content_type = metrics.render("", counts)
    assert content_type.startswith("text/plain")
    return {
        (sample.name, sample.labels.get("le", sample.labels.get("worker", ""))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_histograms_are_cumulative_in_seconds() -> None:
    found = samples(Counts(series=(series((400, 1_000, 1_001, 90_000_000)),)))
    name = "http_server_request_duration_seconds"
    assert found[f"{name}_bucket", "0.0005"] == 1
    assert found[f"{name}_bucket", "0.001"] == 2
    assert found[f"{name}_bucket", "60.0"] == 3
    assert found[f"{name}_bucket", "+Inf"] == 4
    assert found[f"{name}_count", ""] == 4
    assert found[f"{name}_sum", ""] == 90.002401


def test_what_is_open_and_what_was_refused_or_dropped_is_shown() -> None:
    found = samples(
        Counts(in_flight=2, connections=5, tasks=9, refused={"400": 3}, dropped={"spool_full": 7})
    )
    assert not any(name.startswith("http_server") for name, _ in found)
    assert found["gateway_in_flight", ""] == 2
    assert found["gateway_client_connections", ""] == 5
    assert found["gateway_worker_tasks", ""] == 9
    assert found["gateway_requests_refused_total", ""] == 3
    assert found["gateway_spool_dropped_total", ""] == 7


def test_each_worker_says_whether_it_serves_and_how_often_it_was_replaced() -> None:
    found = samples(Counts())
    assert [found["gateway_worker_up", worker] for worker in "01"] == [1, 0]
    assert [found["gateway_worker_restarts_total", worker] for worker in "01"] == [0, 4]
    assert found["gateway_worker_resident_memory_bytes", "0"] > 1e6
    assert ("gateway_worker_resident_memory_bytes", "1") not in found


def test_what_workers_see_of_an_endpoint_is_shown() -> None:
    health = UpstreamHealth(
        endpoint="http://a:1",
        healthy=False,
        open_connections=4,
        outstanding=5,
        pending=2,
        ejections=7,
    )
    skipped = {"rag": {"outstanding": 3}}
    found = samples(Counts(upstreams={"rag": {"stable": [health]}}, mirrors_skipped=skipped))
    names = ("healthy", "connections", "outstanding", "pending", "ejections_total")
    assert [found[f"gateway_upstream_{name}", ""] for name in names] == [0, 4, 3, 2, 7]
    assert found["gateway_mirrors_skipped_total", ""] == 3
