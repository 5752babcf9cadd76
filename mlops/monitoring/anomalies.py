"""Is an hour unlike the hours before it? Pure.

An hour is compared with the median of the hours before. How much hours differ anyway is their
median absolute deviation, scaled to a standard deviation; the chance within the hour itself is
added. It is told where it is further off than `LIMIT` of these and by more than a margin that
matters: a small change is no reason to wake anybody, however certain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import median
from typing import Final

from mlops.monitoring.figures import HOUR_S, Collected, HourFigures, ScoreFigures
from mlops.monitoring.findings import Finding, Look, Severity

LIMIT: Final = 6.0
"""Standard deviations; of 168 normal hours it is passed once in millions, of 6 once in hundreds."""
MIN_HOURS: Final = 6
MIN_REQUESTS: Final = 50
"""Of an hour, to be compared or to be compared with."""
MIN_DAYS: Final = 3
"""Traffic follows the hour of the day: it is compared with the same hour of earlier days."""
TRAFFIC_FACTOR: Final = 3.0
_MAD_TO_DEVIATION: Final = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A figure of one hour, and by how much chance alone may move it."""

    value: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What is compared, and when a difference matters."""

    name: str
    unit: str
    margin: Callable[[float], float]
    """The least difference that matters, at this expected value."""
    worse_is_more: bool
    severity: Severity
    retrain: bool = False

    def shown(self, value: float) -> str:
        """With its unit."""
        return f"{100 * value:.2f} %" if self.unit == "%" else f"{value:.4g}{self.unit}"


ERRORS: Final = Figure(
    name="error_rate",
    unit="%",
    margin=lambda _: 0.005,
    worse_is_more=True,
    severity=Severity.CRITICAL,
)
LATENCY_P50: Final = Figure(
    name="latency_p50",
    unit=" ms",
    margin=lambda expected: 0.1 * expected,
    worse_is_more=True,
    severity=Severity.WARNING,
)
LATENCY_P95: Final = Figure(
    name="latency_p95",
    unit=" ms",
    margin=lambda expected: 0.1 * expected,
    worse_is_more=True,
    severity=Severity.WARNING,
)
SCORE: Final = Figure(
    name="score",
    unit="",
    margin=lambda _: 0.02,
    worse_is_more=False,
    severity=Severity.WARNING,
    retrain=True,
)


def anomalies(collected: Collected) -> Look:
    """What of the hour is unlike the baseline, and what cannot be told."""
    findings: list[Finding] = []
    unknown: list[str] = []
    for route in sorted({one.route for one in collected.hours}):
        hours = [one for one in collected.hours if one.route == route]
        now = [one for one in hours if one.hour == collected.hour]
        past = [one for one in hours if one.hour < collected.hour]
        _traffic(route, collected.hour, now, past, findings, unknown)
        if now:
            _compare_hours(route, now[0], past, findings, unknown)
    for name in sorted({one.name for one in collected.scores}):
        scores = [one for one in collected.scores if one.name == name]
        _compare_scores(name, collected.hour, scores, findings, unknown)
    return Look.of(findings, unknown)


def compare(figure: Figure, now: Point, past: Sequence[Point]) -> tuple[float, float] | None:
    """Expected value and limit, where the hour is past the limit; None where it is not."""
    values = [one.value for one in past]
    expected = median(values)
    spread = _MAD_TO_DEVIATION * median(abs(value - expected) for value in values)
    allowed = max(LIMIT * sqrt(spread**2 + now.error**2), figure.margin(expected))
    off = now.value - expected if figure.worse_is_more else expected - now.value
    if off <= allowed:
        return None
    return expected, expected + allowed if figure.worse_is_more else expected - allowed


def _compare_hours(
    route: str,
    now: HourFigures,
    past: Sequence[HourFigures],
    findings: list[Finding],
    unknown: list[str],
) -> None:
    past = [one for one in past if one.requests >= MIN_REQUESTS]
    if now.requests < MIN_REQUESTS or len(past) < MIN_HOURS:
        unknown.append(
            f"{route}: {now.requests} requests against {len(past)} hours; expected "
            f"{MIN_REQUESTS} requests and {MIN_HOURS} hours"
        )
        return
    for figure, point in (
        (ERRORS, _error_rate),
        (LATENCY_P50, lambda one: Point(value=one.latency_p50_ms, error=0.0)),
        (LATENCY_P95, lambda one: Point(value=one.latency_p95_ms, error=0.0)),
    ):
        _tell(figure, figure.name, route, point(now), [point(one) for one in past], findings)
    scored = [one for one in past if one.scored >= MIN_REQUESTS]
    if now.scored >= MIN_REQUESTS and len(scored) >= MIN_HOURS:
        points = [_mean(one.scored, one.score_total, one.score_squares) for one in scored]
        own = _mean(now.scored, now.score_total, now.score_squares)
        _tell(SCORE, "relevance_score", route, own, points, findings)


def _compare_scores(
    name: str,
    hour: int,
    scores: Sequence[ScoreFigures],
    findings: list[Finding],
    unknown: list[str],
) -> None:
    enough = {one.hour: one for one in scores if one.count >= MIN_REQUESTS}
    now = enough.pop(hour, None)
    if now is None or len(enough) < MIN_HOURS:
        unknown.append(
            f"late score {name}: {len(enough)} hours to compare with and "
            f"{'an' if now else 'no'} hour to compare; expected {MIN_HOURS} with "
            f"{MIN_REQUESTS} scores each"
        )
        return
    points = [_mean(one.count, one.total, one.squares) for one in enough.values()]
    _tell(SCORE, name, "", _mean(now.count, now.total, now.squares), points, findings)


def _tell(
    figure: Figure,
    name: str,
    route: str,
    now: Point,
    past: Sequence[Point],
    findings: list[Finding],
) -> None:
    found = compare(figure, now, past)
    if found is None:
        return
    expected, limit = found
    findings.append(
        Finding(
            look="anomalies",
            name=name,
            route=route,
            severity=figure.severity,
            sentence=(
                f"{route + ': ' if route else ''}{name} {figure.shown(now.value)}, of "
                f"{len(past)} hours before {figure.shown(expected)} "
                f"(limit {figure.shown(limit)})"
            ),
            value=now.value,
            expected=expected,
            retrain=figure.retrain,
        )
    )


def _traffic(
    route: str,
    hour: int,
    now: Sequence[HourFigures],
    past: Sequence[HourFigures],
    findings: list[Finding],
    unknown: list[str],
) -> None:
    same = [one.requests for one in past if (hour - one.hour) % (24 * HOUR_S) == 0]
    requests = now[0].requests if now else 0
    if len(same) < MIN_DAYS:
        unknown.append(
            f"{route}: traffic, {len(same)} earlier days with this hour; expected {MIN_DAYS}"
        )
        return
    expected = median(same)
    if expected < MIN_REQUESTS or expected / TRAFFIC_FACTOR <= requests <= (
        expected * TRAFFIC_FACTOR
    ):
        return
    findings.append(
        Finding(
            look="anomalies",
            name="traffic",
            route=route,
            severity=Severity.WARNING if requests else Severity.CRITICAL,
            sentence=f"{route}: {requests:,} requests, at this hour of {len(same)} days before "
            f"{expected:,.0f}",
            value=requests,
            expected=expected,
        )
    )


def _error_rate(one: HourFigures) -> Point:
    # Half a count is added to each side: no error among few requests is not certainty.
    rate = (one.errors + 0.5) / (one.requests + 1)
    return Point(value=one.errors / one.requests, error=sqrt(rate * (1 - rate) / one.requests))


def _mean(count: int, total: float, squares: float) -> Point:
    mean = total / count
    variance = max(0.0, squares / count - mean * mean)
    assert isfinite(mean), "scores lie in 0..1"
    return Point(value=mean, error=sqrt(variance / count))
