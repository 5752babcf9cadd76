"""What several workers counted, together: nothing is lost, nothing goes down."""

from __future__ import annotations

from gateway.counts import MAX_ENDED_VERSIONS, Counts, HistogramValue, SeriesValue, ended, total
from mlops.contracts.api import ArmCounters, UpstreamHealth


def histogram(*counts: int, bounds_us: tuple[int, ...] = (100, 200)) -> HistogramValue:
    return HistogramValue(bounds_us=bounds_us, counts=counts, sum_us=sum(counts) * 50)


def series(version: str, *counts: int, bounds_us: tuple[int, ...] = (100, 200)) -> SeriesValue:
    value = histogram(*counts, bounds_us=bounds_us)
    return SeriesValue(
        route="rag",
        arm="stable",
        version=version,
        outcome="ok",
        latency=value,
        first_byte=value,
        own=value,
        request_bytes=10,
        response_bytes=20,
    )


def counts(requests: int, *of: SeriesValue, healthy: bool = True) -> Counts:
    health = UpstreamHealth(
        endpoint="http://a:1",
        healthy=healthy,
        open_connections=2,
        reason="" if healthy else "refused",
        outstanding=5,
        pending=1,
        ejections=2,
    )
    return Counts(
        in_flight=1,
        connections=3,
        refused={"404": requests},
        dropped={"spool_full": 1},
        series=of,
        arms={"rag": {"stable": ArmCounters(requests=requests, errors=1, cancelled=0)}},
        upstreams={"rag": {"stable": [health]}},
    )


def test_counts_of_workers_add_up() -> None:
    both = total([counts(4, series("A", 1, 2, 3)), counts(5, series("A", 1, 1, 1), series("B", 1))])
    assert both.in_flight == 2
    assert both.connections == 6
    assert both.refused == {"404": 9}
    assert both.dropped == {"spool_full": 2}
    assert both.arms["rag"]["stable"] == ArmCounters(requests=9, errors=2, cancelled=0)
    of_a, of_b = both.series
    assert (of_a.latency.counts, of_a.latency.sum_us) == ((2, 3, 4), 450)
    assert (of_a.request_bytes, of_a.response_bytes) == (20, 40)
    assert of_b == series("B", 1)


def test_an_endpoint_is_healthy_while_every_worker_finds_it_so() -> None:
    both = total([counts(1), counts(1, healthy=False)])
    (health,) = both.upstreams["rag"]["stable"]
    assert (health.healthy, health.reason) == (False, "refused")
    assert (health.open_connections, health.outstanding) == (4, 10)
    assert (health.pending, health.ejections) == (2, 4)


def test_an_ended_worker_leaves_what_it_counted_and_nothing_that_it_saw() -> None:
    left = ended(counts(4, series("A", 1, 2, 3)))
    assert (left.in_flight, left.connections, left.upstreams) == (0, 0, {})
    assert left.refused == {"404": 4}
    assert total([left, counts(1)]).arms["rag"]["stable"].requests == 5


def test_of_ended_workers_only_the_latest_versions_are_kept() -> None:
    many = [series(f"v{number}", 1, 0, 0) for number in range(MAX_ENDED_VERSIONS + 8)]
    left = ended(counts(1, *many))
    assert [each.version for each in left.series] == [each.version for each in many[8:]]


def test_another_programs_bounds_lose_no_count() -> None:
    both = total([counts(1, series("A", 1, 2, 3)), counts(1, series("A", 4, 5, bounds_us=(150,)))])
    assert both.series[0].latency.counts == (1, 2, 12)
