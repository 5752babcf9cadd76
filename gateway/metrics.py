"""Prometheus text, made when it is asked for: the request path only counts in plain integers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from mmap import PAGESIZE
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.counts import Counts, HistogramValue, SeriesValue
from gateway.plans import PlanBook
from mlops.contracts.plan import FULL_SHARE_BP, Arm
from mlops.service.version import program_version


class WorkerView(Protocol):
    """One worker that serves, as its supervisor knows it."""

    @property
    def index(self) -> int:
        """Stays the same when it is replaced."""

    @property
    def pid(self) -> int:
        """Of its present process."""

    @property
    def name(self) -> str:
        """Under which it spools; empty where nothing is recorded."""


class CrewView(Protocol):
    """The workers, as metrics see them."""

    @property
    def restarts(self) -> Sequence[int]:
        """Times that each was replaced, by index."""

    @property
    def members(self) -> Mapping[int, WorkerView]:
        """Those that serve now, by index."""


class Metrics:
    """Reads the plans, the workers and what they counted at each scrape."""

    def __init__(self, book: PlanBook, crew: CrewView, clock: Callable[[], float]) -> None:
        self.reloads_refused = 0
        self.unknown_fields: dict[str, int] = {}
        self._book = book
        self._crew = crew
        self._clock = clock

    def count_unknown_fields(self, what: str, count: int) -> None:
        """`what` is `plan` or `lease`."""
        self.unknown_fields[what] = self.unknown_fields.get(what, 0) + count

    def render(self, accept: str, counts: Counts) -> tuple[bytes, str]:
        """The text and its content type, in the format that the scraper prefers."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Scrape(lambda: self._collect(counts)))
        ProcessCollector(registry=registry)
        encoder, content_type = choose_encoder(accept)
        return encoder(registry), content_type

    def _collect(self, counts: Counts) -> Iterator[Metric]:
        yield from _exchanges(counts.series)
        yield from self._routes()
        yield from self._workers()
        yield from _upstreams(counts)
        yield from _left_out(counts)
        yield from _open_now(counts)
        yield _by_label(
            CounterMetricFamily,
            "gateway_unknown_fields",
            "Fields ignored in plans and lease renewals of another version.",
            "body",
            self.unknown_fields,
        )
        yield CounterMetricFamily(
            "gateway_reloads_refused",
            "Reloads refused whole because the file was bad.",
            value=self.reloads_refused,
        )
        yield _by_label(
            GaugeMetricFamily,
            "gateway_build_info",
            "Which version of the program this is.",
            "version",
            {program_version(): 1},
        )

    def _workers(self) -> Iterator[Metric]:
        restarts = _by_worker(
            CounterMetricFamily, "gateway_worker_restarts", "Times that this worker was replaced."
        )
        up = _by_worker(GaugeMetricFamily, "gateway_worker_up", "1 while this worker serves.")
        memory = _by_worker(
            GaugeMetricFamily, "gateway_worker_resident_memory_bytes", "Of its process."
        )
        cpu = _by_worker(
            CounterMetricFamily, "gateway_worker_cpu_seconds", "Used by its present process."
        )
        info = _by_worker(GaugeMetricFamily, "gateway_info", "Processes that serve.", "name", "pid")
        for index, count in enumerate(self._crew.restarts):
            worker = str(index)
            member = self._crew.members.get(index)
            restarts.add_metric([worker], count)
            up.add_metric([worker], member is not None)
            if member is not None and (used := process_use(member.pid)) is not None:
                info.add_metric([worker, member.name, str(member.pid)], 1)
                memory.add_metric([worker], used.resident_bytes)
                cpu.add_metric([worker], used.cpu_s)
        yield from (restarts, up, memory, cpu, info)

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


class _Scrape(Collector):
    """What `Metrics` collects, as the library wants it."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


class ProcessUse(NamedTuple):
    """What a process takes of the machine."""

    resident_bytes: int
    cpu_s: float


def process_use(pid: int) -> ProcessUse | None:
    """What a process takes, from /proc; None where it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    ticks = int(stat[11]) + int(stat[12])
    return ProcessUse(int(stat[21]) * PAGESIZE, ticks / os.sysconf("SC_CLK_TCK"))


Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)


def _by_label(
    family: type[Family], name: str, text: str, label: str, values: Mapping[str, float]
) -> Family:
    made = family(name, text, labels=[label])
    for value, count in values.items():
        made.add_metric([value], count)
    return made


def _by_worker(family: type[Family], name: str, text: str, *more: str) -> Family:
    return family(name, text, labels=["worker", *more])


def _by_route(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["route", *more])


def _left_out(counts: Counts) -> Iterator[Metric]:
    """What was asked for and not done: records, copies, log lines, requests."""
    yield _by_label(
        CounterMetricFamily,
        "gateway_spool_dropped",
        "Records and tallies that the spool did not take.",
        "reason",
        counts.dropped,
    )
    skipped = CounterMetricFamily(
        "gateway_mirrors_skipped",
        "Copies of requests that were drawn but not made.",
        labels=["route", "reason"],
    )
    for route, reasons in counts.mirrors_skipped.items():
        for reason, count in reasons.items():
            skipped.add_metric([route, reason], count)
    yield skipped
    yield CounterMetricFamily(
        "gateway_access_log_dropped",
        "Lines of the access log that were not written.",
        value=counts.access_log_dropped,
    )
    yield _by_label(
        CounterMetricFamily,
        "gateway_requests_refused",
        "Requests answered before they were given to a route.",
        "status",
        counts.refused,
    )


def _open_now(counts: Counts) -> Iterator[Metric]:
    yield GaugeMetricFamily("gateway_in_flight", "Exchanges open now.", value=counts.in_flight)
    yield GaugeMetricFamily("gateway_client_connections", "Open now.", value=counts.connections)
    yield GaugeMetricFamily(
        "gateway_worker_tasks", "Of the workers' event loops, not ended.", value=counts.tasks
    )


def _upstreams(counts: Counts) -> Iterator[Metric]:
    labels = ["route", "slot", "endpoint"]
    healthy = GaugeMetricFamily(
        "gateway_upstream_healthy", "1 while every worker finds it so.", labels=labels
    )
    connections = GaugeMetricFamily(
        "gateway_upstream_connections", "Open to it, of all workers.", labels=labels
    )
    outstanding = GaugeMetricFamily(
        "gateway_upstream_outstanding", "Requests that it works on.", labels=labels
    )
    pending = GaugeMetricFamily(
        "gateway_upstream_pending", "Requests that wait for a connection to it.", labels=labels
    )
    ejections = CounterMetricFamily(
        "gateway_upstream_ejections", "Times that its failures took it out.", labels=labels
    )
    for route, slots in counts.upstreams.items():
        for slot, healths in slots.items():
            for each in healths:
                values = [route, slot, each.endpoint]
                healthy.add_metric(values, each.healthy)
                connections.add_metric(values, each.open_connections)
                outstanding.add_metric(values, each.outstanding - each.pending)
                pending.add_metric(values, each.pending)
                ejections.add_metric(values, each.ejections)
    yield from (healthy, connections, outstanding, pending, ejections)


def _exchanges(series: Sequence[SeriesValue]) -> Iterator[Metric]:
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


def _buckets(counts: HistogramValue) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound in seconds, as Prometheus wants them."""
    buckets = []
    total = 0
    for index, count in enumerate(counts.counts):
        total += count
        bounds = counts.bounds_us
        upper = repr(bounds[index] / 1e6) if index < len(bounds) else "+Inf"
        buckets.append((upper, float(total)))
    return buckets
