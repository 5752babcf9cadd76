"""A route's keys about its upstreams: what arrives, and what is refused by name."""

from __future__ import annotations

import pytest

from gateway.config import parse
from gateway.settings import RouteSettings
from gateway.upstream_settings import BreakerSettings, PoolSettings, UpstreamSettings

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
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
