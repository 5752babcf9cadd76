"""A route's keys about its upstreams: what arrives, and what is refused by name."""

from __future__ import annotations

import pytest

from gateway.config import parse
from gateway.settings import RouteSettings
from gateway.upstream_settings import (
    BreakerSettings,
    HealthCheckSettings,
    MirrorSettings,
    OutlierSettings,
    PoolSettings,
    UpstreamSettings,
)

SHORT = """
routes:
  - name: rag
    match: {prefix: /}
    stable: {version: 1.2.2, endpoints: ["http://127.0.0.1:8011"]}
"""


def route_of(more: str = "") -> RouteSettings:
    (route,) = parse(f"{SHORT}    {more}\n", {}).routes
    return route


def test_everything_is_optional() -> None:
    route = route_of()
    assert route.upstream == UpstreamSettings()
    assert route.circuit_breaker == BreakerSettings(requests=None, pending=None, retries=None)
    assert route.timeouts.total_s is None


def test_a_pool_has_bounds() -> None:
    pool = route_of("pool: {connections: 8, pending: 16, idle: 0, idle_timeout: 500ms}")
    assert pool.upstream.pool == PoolSettings(connections=8, pending=16, idle=0, idle_timeout_s=0.5)
    assert route_of("pool: {idle: 3}").upstream.pool == PoolSettings(idle=3)


def test_a_circuit_breaker_and_a_total_timeout_arrive() -> None:
    route = route_of("circuit_breaker: {requests: 10, pending: 0, retries: 3}")
    assert route.circuit_breaker == BreakerSettings(requests=10, pending=0, retries=3)
    assert route_of("timeouts: {total: 2m}").timeouts.total_s == 120


def test_mirroring_is_off_until_a_percentage_is_asked_for() -> None:
    assert route_of().mirror.percent == 0
    mirror = route_of("mirror: {to: canary, percent: 12.5%, outstanding: 7}").mirror
    assert mirror == MirrorSettings(percent=12.5, outstanding=7)


def test_health_checks_and_outlier_detection_are_off_until_they_are_named() -> None:
    assert route_of().upstream.health_check is None
    assert route_of().upstream.outlier_detection is None
    check = route_of("health_check: {path: /healthz}").upstream.health_check
    assert check == HealthCheckSettings(path="/healthz")
    assert route_of("outlier_detection: {}").upstream.outlier_detection == OutlierSettings()


def test_health_checks_and_outlier_detection_arrive_whole() -> None:
    check = route_of(
        "health_check: {path: /h, interval: 2s, timeout: 500ms, healthy: 1, unhealthy: 5,"
        " expect: [200, 204, 300-399]}"
    ).upstream.health_check
    assert check == HealthCheckSettings(
        path="/h", interval_s=2, timeout_s=0.5, healthy=1, unhealthy=5,
        expect=((200, 200), (204, 204), (300, 399)),
    )  # fmt: skip
    outliers = route_of(
        "outlier_detection: {consecutive_failures: 0, failure_percentage: 85%, "
        "minimum_requests: 20, interval: 5s, base_ejection_time: 1s, max_ejection_time: 1m, "
        "max_ejection_percent: 10}"
    ).upstream.outlier_detection
    assert outliers == OutlierSettings(
        consecutive_failures=0, failure_percentage=85, minimum_requests=20, interval_s=5,
        base_ejection_s=1, max_ejection_s=60, max_ejection_percent=10,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mirror: {to: stable}", r"mirror.to: expected canary, got 'stable'"),
        ("mirror: {percent: 101}", r"mirror.percent: expected a percentage from 0 to 100"),
        ("mirror: {outstanding: 0}", r"mirror.outstanding: expected 1 to"),
        ("health_check: {}", r"routes\[0\].health_check: the key 'path' is missing"),
        ("health_check: {path: healthz}", r"health_check.path: expected a path such as /healthz"),
        ("health_check: {path: '/a b'}", r"health_check.path: expected a path"),
        ("health_check: {path: /h, timeout: 6s}", r"health_check.timeout: expected at most"),
        ("health_check: {path: /h, healthy: 0}", r"health_check.healthy: expected 1 to"),
        ("health_check: {path: /h, expect: []}", r"expect: expected at least one status"),
        ("health_check: {path: /h, expect: [299-200]}", r"expected statuses such as .*'299-200'"),
        ("health_check: {path: /h, expect: [ok]}", r"expected statuses such as"),
        ("outlier_detection: {consecutive_failures: 0}", r"expected consecutive_failures above 0"),
        ("outlier_detection: {failure_percentage: 0}", r"failure_percentage: expected above 0"),
        ("outlier_detection: {base_ejection_time: 1h}", r"base_ejection_time: expected at most"),
        ("outlier_detection: {minimum_requests: 0}", r"minimum_requests: expected 1 to"),
        ("pool: {connections: 0}", r"routes\[0\].pool.connections: expected 1 to 65,536, got 0"),
        ("pool: {pending: 0}", r"pool.pending: expected 1 to 1,000,000, got 0"),
        ("pool: {idle: -1}", r"pool.idle: expected 0 to"),
        ("pool: {idel: 1}", r"pool: unknown key 'idel'; did you mean 'idle'\?"),
        ("circuit_breaker: {requests: 0}", r"circuit_breaker.requests: expected 1 to"),
        ("circuit_breaker: {retries: -1}", r"circuit_breaker.retries: expected 0 to"),
        ("timeouts: {total: 0s}", r"timeouts.total: expected a duration above 0"),
    ],
)
def test_a_mistake_is_named(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        route_of(text)
