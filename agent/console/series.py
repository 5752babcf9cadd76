"""Traffic of the last minutes as the console draws it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mlops.contracts.evidence import (
    BIN_RATIO,
    LATENCY_FIRST_EDGE_US,
    Evidence,
    SecondCounts,
)

MAX_POINTS: Final = 90
"""Of one line: more would not be seen."""
QUANTILES: Final = (0.5, 0.95, 0.99)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One arm in one stretch of time."""

    at: int
    """Its first second (Unix time)."""
    requests: int
    errors: int
    latency_ms: tuple[float, float, float] | None
    """p50, p95, p99; None without a request."""


class ArmTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """One arm over all of it."""

    requests: int
    errors: int
    rows: int
    answered: int
    """By the gateways' own tallies: `rows` over it is the completeness of the log."""
    points: tuple[Point, ...]
    latency: tuple[tuple[float, float], ...]
    """Upper edge of each bin in milliseconds, and the share of requests in it."""


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/routes/{route}/traffic` and `/v1/releases/{id}/traffic`."""

    since: int
    closed_through: int
    """Later seconds are not complete yet."""
    every_s: int
    arms: dict[str, ArmTraffic]


def stretch_s(since: int, until: int) -> int:
    """How long each of at most `MAX_POINTS` equal parts of these seconds is."""
    return -(-max(1, until - since + 1) // MAX_POINTS)


def traffic(evidence: Evidence, every_s: int | None = None) -> Traffic:
    """Cut into stretches of `every_s` seconds; by default at most `MAX_POINTS` of them."""
    every_s = every_s or stretch_s(evidence.since, evidence.closed_through)
    arms = sorted({one.arm for one in evidence.seconds})
    answered: Counter[str] = Counter()
    for one in evidence.answered:
        answered[one.arm] += one.answered
    return Traffic(
        since=evidence.since,
        closed_through=evidence.closed_through,
        every_s=every_s,
        arms={
            arm: _arm(
                [one for one in evidence.seconds if one.arm == arm],
                answered[arm],
                evidence.since,
                every_s,
            )
            for arm in arms
        },
    )


def _arm(seconds: list[SecondCounts], answered: int, since: int, every_s: int) -> ArmTraffic:
    spans: dict[int, list[SecondCounts]] = {}
    for one in seconds:
        at = since + (one.second - since) // every_s * every_s
        spans.setdefault(at, []).append(one)
    whole = _bins(seconds)
    total = sum(whole.values())
    return ArmTraffic(
        requests=sum(one.requests for one in seconds),
        errors=sum(one.errors for one in seconds),
        rows=sum(one.rows for one in seconds),
        answered=answered,
        points=tuple(_point(at, spans[at]) for at in sorted(spans)),
        latency=tuple(
            (round(edge_ms(index), 3), whole[index] / total) for index in sorted(whole) if total
        ),
    )


def _point(at: int, seconds: list[SecondCounts]) -> Point:
    bins = _bins(seconds)
    p50, p95, p99 = (quantile_ms(bins, quantile) for quantile in QUANTILES)
    return Point(
        at=at,
        requests=sum(one.requests for one in seconds),
        errors=sum(one.errors for one in seconds),
        latency_ms=(p50, p95, p99) if bins else None,
    )


def _bins(seconds: Iterable[SecondCounts]) -> Counter[int]:
    total: Counter[int] = Counter()
    for one in seconds:
        total.update(one.latency_bins)
    return total


def edge_ms(index: int) -> float:
    """Upper edge of a latency bin, in milliseconds."""
    return float(LATENCY_FIRST_EDGE_US * BIN_RATIO ** (index + 1) / 1000)


def quantile_ms(bins: Mapping[int, int], quantile: float) -> float:
    """To the upper edge of its bin; 0 without any."""
    total = sum(bins.values())
    seen = 0
    for index in sorted(bins):
        seen += bins[index]
        if seen >= quantile * total:
            return round(edge_ms(index), 3)
    return 0.0
