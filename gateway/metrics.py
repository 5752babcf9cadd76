"""Prometheus text, made when it is asked for: the request path only counts in plain integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.plans import PlanBook
from mlops.contracts.plan import FULL_SHARE_BP, Arm


class HistogramCounts(Protocol):
    """`counts[i]` is of values up to `bounds_us[i]`, the last one of all above."""

    @property
    def bounds_us(self) -> Sequence[int]: ...
    @property
    def counts(self) -> Sequence[int]: ...
    @property
    def sum_us(self) -> int: ...


class Series(Protocol):
    """What is counted of one route, arm, version and outcome."""

    @property
    def route(self) -> str: ...
    @property
    def arm(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def latency(self) -> HistogramCounts: ...
    @property
    def first_byte(self) -> HistogramCounts: ...
    @property
    def own(self) -> HistogramCounts: ...
    @property
    def request_bytes(self) -> int: ...
    @property
    def response_bytes(self) -> int: ...


class Counted(Protocol):
    """The part of the proxy that metrics read."""

    @property
    def in_flight(self) -> int: ...
    @property
    def connections(self) -> int: ...
    @property
    def refused(self) -> dict[int, int]: ...
    def counters(self) -> Iterable[Series]: ...


class Metrics(Collector):
    """Reads the proxy, the plans and the spool at each scrape."""

    def __init__(
        self,
        proxy: Counted,
        book: PlanBook,
        dropped: Callable[[], dict[str, int]],
        clock: Callable[[], float],
        worker: str,
    ) -> None:
        """`dropped` counts what was not spooled, by reason, since the start."""
        self._proxy = proxy
        self._book = book
        self._dropped = dropped
        self._clock = clock
        self._worker = worker
        self._unknown_fields: dict[str, int] = {}
        self.reloads_refused = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def count_unknown_fields(self, what: str, count: int) -> None:
        """`what` is `plan` or `lease`."""
        self._unknown_fields[what] = self._unknown_fields.get(what, 0) + count

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its content type, in the format that the scraper prefers."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        series = [each for each in self._proxy.counters() if each.count]
        yield from _exchanges(series)
        yield from self._routes()
        dropped = CounterMetricFamily(
            "gateway_spool_dropped",
            "Records and tallies that the spool did not take.",
            labels=["reason"],
        )
        for reason, count in self._dropped().items():
            dropped.add_metric([reason], count)
        yield dropped
        unknown = CounterMetricFamily(
            "gateway_unknown_fields",
            "Fields ignored in plans and lease renewals of another version.",
            labels=["body"],
        )
        for what, count in self._unknown_fields.items():
            unknown.add_metric([what], count)
        yield unknown
        yield CounterMetricFamily(
            "gateway_reloads_refused",
            "Reloads refused whole because the file was bad.",
            value=self.reloads_refused,
        )
        yield GaugeMetricFamily(
            "gateway_in_flight", "Exchanges open now.", value=self._proxy.in_flight
        )
        yield GaugeMetricFamily(
            "gateway_client_connections", "Open now.", value=self._proxy.connections
        )
        refused = CounterMetricFamily(
            "gateway_requests_refused",
            "Requests answered before they were given to a route.",
            labels=["status"],
        )
        for status, count in self._proxy.refused.items():
            refused.add_metric([str(status)], count)
        yield refused
        info = GaugeMetricFamily("gateway_info", "This process.", labels=["worker"])
        info.add_metric([self._worker], 1)
        yield info

    def _routes(self) -> Iterator[Metric]:
        generation = _by_route("gateway_plan_generation", "Live generation.")
        hold = _by_route("gateway_plan_hold", "1 while a person's plan holds the agent off.")
        share = _by_route("gateway_share_ratio", "Share of requests in force.", "arm")
        remaining = _by_route("gateway_lease_remaining_seconds", "Until the lease ends.")
        lapsed = _by_route("gateway_lease_lapsed", "1 while everything goes to stable for it.")
        unpublished = _by_route(
            "gateway_managed_route_unpublished", "1 while a managed route has had no plan."
        )
        now_s = self._clock()
        for route in self._book.routes:
            live = self._book.live(route)
            generation.add_metric([route], live.plan.generation)
            hold.add_metric([route], live.plan.hold)
            lapses = live.is_lapsed(now_s)
            canary_bp = 0 if lapses else live.plan.canary_share_bp
            holdback_bp = 0 if lapses else live.plan.holdback_share_bp
            stable_bp = FULL_SHARE_BP - canary_bp - holdback_bp
            for arm, share_bp in (
                (Arm.STABLE, stable_bp),
                (Arm.CANARY, canary_bp),
                (Arm.HOLDBACK, holdback_bp),
            ):
                share.add_metric([route, arm.value], share_bp / FULL_SHARE_BP)
            lapsed.add_metric([route], lapses)
            if live.lease_ends_at_s < inf:
                remaining.add_metric([route], max(0.0, live.lease_ends_at_s - now_s))
            unpublished.add_metric([route], self._book.is_unpublished(route))
        yield from (generation, hold, share, remaining, lapsed, unpublished)


def _by_route(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["route", *more])


def _exchanges(series: list[Series]) -> Iterator[Metric]:
    labels = ["route", "arm", "version", "outcome"]
    duration = HistogramMetricFamily(
        "http_server_request_duration_seconds",
        "From the first byte of the request to the last of the answer.",
        labels=labels,
    )
    first_chunk = HistogramMetricFamily(
        "http_server_time_to_first_chunk_seconds",
        "From the first byte of the request to the first of the answer.",
        labels=labels,
    )
    own = HistogramMetricFamily(
        "gateway_overhead_seconds", "Time that the gateway itself added.", labels=labels
    )
    received = CounterMetricFamily(
        "gateway_request_body_bytes", "Bytes of requests' bodies.", labels=labels
    )
    sent = CounterMetricFamily(
        "gateway_response_body_bytes", "Bytes of answers' bodies.", labels=labels
    )
    for each in series:
        values = [each.route, each.arm, each.version, each.outcome]
        for family, counts in (
            (duration, each.latency),
            (first_chunk, each.first_byte),
            (own, each.own),
        ):
            family.add_metric(values, _buckets(counts), counts.sum_us / 1e6)
        received.add_metric(values, each.request_bytes)
        sent.add_metric(values, each.response_bytes)
    yield from (duration, first_chunk, own, received, sent)


def _buckets(counts: HistogramCounts) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound in seconds, as Prometheus wants them."""
    buckets = []
    total = 0
    for index, count in enumerate(counts.counts):
        total += count
        bounds = counts.bounds_us
        upper = repr(bounds[index] / 1e6) if index < len(bounds) else "+Inf"
        buckets.append((upper, float(total)))
    return buckets
