"""What a worker has counted, as a value that can cross to the supervisor and be added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

import msgspec
from msgspec.structs import replace

from mlops.contracts.api import ArmCounters, UpstreamHealth

MAX_ENDED_VERSIONS = 32
"""Versions per route of which the counts of ended workers are kept, as a worker keeps its own."""

Healths = dict[str, list[UpstreamHealth]]
"""By slot."""


class HistogramValue(msgspec.Struct, frozen=True, kw_only=True):
    """`counts[i]` is of values up to `bounds_us[i]`, the last one of all above."""

    bounds_us: tuple[int, ...]
    counts: tuple[int, ...]
    sum_us: int


class SeriesValue(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted of one route, arm, version and outcome since the worker started."""

    route: str
    arm: str
    version: str
    outcome: str
    latency: HistogramValue
    first_byte: HistogramValue
    own: HistogramValue
    request_bytes: int
    response_bytes: int

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells one series from the others."""
        return self.route, self.arm, self.version, self.outcome


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was counted since the start, and what is seen now."""

    in_flight: int = 0
    connections: int = 0
    tasks: int = 0
    """Of the event loop, not ended."""
    refused: dict[str, int] = {}
    """Requests answered before they were given to a route, by status."""
    dropped: dict[str, int] = {}
    """Records and tallies that the spool did not take, by reason."""
    access_log_dropped: int = 0
    """Lines that were not written."""
    mirrors_skipped: dict[str, dict[str, int]] = {}
    """By route and reason."""
    series: tuple[SeriesValue, ...] = ()
    arms: dict[str, dict[str, ArmCounters]] = {}
    """By route and arm."""
    upstreams: dict[str, Healths] = {}
    """By route and slot."""


NOTHING = Counts()


def total(parts: Iterable[Counts]) -> Counts:
    """Of several workers together."""
    all_of = list(parts)
    if len(all_of) == 1:
        return all_of[0]
    routes = _keys(part.arms for part in all_of)
    seen = _keys(part.upstreams for part in all_of)
    return Counts(
        in_flight=sum(part.in_flight for part in all_of),
        connections=sum(part.connections for part in all_of),
        tasks=sum(part.tasks for part in all_of),
        refused=_sums(part.refused for part in all_of),
        dropped=_sums(part.dropped for part in all_of),
        access_log_dropped=sum(part.access_log_dropped for part in all_of),
        mirrors_skipped={
            name: _sums(part.mirrors_skipped.get(name, {}) for part in all_of)
            for name in _keys(part.mirrors_skipped for part in all_of)
        },
        series=_series(chain.from_iterable(part.series for part in all_of)),
        arms={name: _arms(part.arms.get(name, {}) for part in all_of) for name in routes},
        upstreams={
            name: _healths([part.upstreams[name] for part in all_of if name in part.upstreams])
            for name in seen
        },
    )


def ended(counts: Counts) -> Counts:
    """What stays of a worker that is gone: what it counted, not what it saw.

    Of each route only the latest versions, so that years of releases do not pile up.
    """
    versions: dict[str, dict[str, None]] = {}
    for each in counts.series:
        versions.setdefault(each.route, {})[each.version] = None
    kept = {route: list(named)[-MAX_ENDED_VERSIONS:] for route, named in versions.items()}
    series = tuple(each for each in counts.series if each.version in kept[each.route])
    return replace(counts, in_flight=0, connections=0, tasks=0, upstreams={}, series=series)


def _keys(parts: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(parts)))


def _sums(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _series(parts: Iterable[SeriesValue]) -> tuple[SeriesValue, ...]:
    sums: dict[tuple[str, str, str, str], SeriesValue] = {}
    for each in parts:
        known = sums.get(each.key)
        sums[each.key] = each if known is None else _added(known, each)
    return tuple(sums.values())


def _added(one: SeriesValue, other: SeriesValue) -> SeriesValue:
    return replace(
        one,
        latency=_both(one.latency, other.latency),
        first_byte=_both(one.first_byte, other.first_byte),
        own=_both(one.own, other.own),
        request_bytes=one.request_bytes + other.request_bytes,
        response_bytes=one.response_bytes + other.response_bytes,
    )


def _both(one: HistogramValue, other: HistogramValue) -> HistogramValue:
    """Other bounds are another version's of this program: its values count as above all."""
    sum_us = one.sum_us + other.sum_us
    if one.bounds_us != other.bounds_us:
        counts = (*one.counts[:-1], one.counts[-1] + sum(other.counts))
    else:
        counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramValue(bounds_us=one.bounds_us, counts=counts, sum_us=sum_us)


def _arms(parts: Iterable[dict[str, ArmCounters]]) -> dict[str, ArmCounters]:
    sums: dict[str, ArmCounters] = {}
    for part in parts:
        for arm, count in part.items():
            known = sums.get(arm)
            sums[arm] = (
                count
                if known is None
                else ArmCounters(
                    requests=known.requests + count.requests,
                    errors=known.errors + count.errors,
                    cancelled=known.cancelled + count.cancelled,
                )
            )
    return sums


def _healths(parts: list[Healths]) -> Healths:
    """An endpoint is healthy while every worker finds it so."""
    together: dict[str, dict[str, UpstreamHealth]] = {}
    for part in parts:
        for slot, healths in part.items():
            by_endpoint = together.setdefault(slot, {})
            for health in healths:
                known = by_endpoint.get(health.endpoint)
                by_endpoint[health.endpoint] = health if known is None else _seen(known, health)
    return {slot: list(healths.values()) for slot, healths in together.items()}


def _seen(one: UpstreamHealth, other: UpstreamHealth) -> UpstreamHealth:
    return replace(
        one,
        healthy=one.healthy and other.healthy,
        open_connections=one.open_connections + other.open_connections,
        reason=one.reason or other.reason,
        outstanding=one.outstanding + other.outstanding,
        pending=one.pending + other.pending,
        ejections=one.ejections + other.ejections,
    )
