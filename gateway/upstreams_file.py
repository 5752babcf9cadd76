"""The keys of a route that are about its upstreams, and what they may say."""

from __future__ import annotations

import re

import msgspec

from gateway.file_values import Duration, FileKeys, Percent
from gateway.upstream_settings import (
    IDLE_TIMEOUT_S,
    MAX_CONNECTIONS,
    MAX_IDLE,
    MAX_PENDING,
    BreakerSettings,
    HealthCheckSettings,
    MirrorSettings,
    OutlierSettings,
    PoolSettings,
    UpstreamSettings,
    UpstreamTlsSettings,
)

MOST_CONNECTIONS = 65_536
"""More ports than this one address has."""
MOST_PENDING = 1_000_000
"""A request that waits holds a few KB."""


_PATH = re.compile(r"/[!-~]*")
"""A request's target; no space or control character may end it early."""
_HOST = re.compile(r"[0-9A-Za-z._:-]{1,253}")
_STATUSES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


class PoolFile(FileKeys):
    """`pool` of a route: connections to one endpoint, for each worker."""

    connections: int = MAX_CONNECTIONS
    pending: int = MAX_PENDING
    idle: int = MAX_IDLE
    idle_timeout: Duration = msgspec.field(default_factory=lambda: Duration(f"{IDLE_TIMEOUT_S}s"))


class BreakerFile(FileKeys):
    """`circuit_breaker` of a route; absent bounds do not bind."""

    requests: int | None = None
    pending: int | None = None
    retries: int | None = None


class MirrorFile(FileKeys):
    """`mirror` of a route: which share of requests is copied."""

    to: str = "canary"
    percent: Percent = msgspec.field(default_factory=lambda: Percent(0))
    outstanding: int = 100


class HealthCheckFile(FileKeys):
    """`health_check` of a route: how its endpoints are asked."""

    path: str
    interval: Duration = msgspec.field(default_factory=lambda: Duration("5s"))
    timeout: Duration = msgspec.field(default_factory=lambda: Duration("1s"))
    healthy: int = 2
    unhealthy: int = 3
    expect: list[int | str] = msgspec.field(default_factory=lambda: ["200-299"])


class OutlierFile(FileKeys):
    """`outlier_detection` of a route: which failures take an endpoint out, for how long."""

    consecutive_failures: int = 5
    failure_percentage: Percent | None = None
    minimum_requests: int = 50
    interval: Duration = msgspec.field(default_factory=lambda: Duration("10s"))
    base_ejection_time: Duration = msgspec.field(default_factory=lambda: Duration("30s"))
    max_ejection_time: Duration = msgspec.field(default_factory=lambda: Duration("5m"))
    max_ejection_percent: Percent = msgspec.field(default_factory=lambda: Percent(50))


class UpstreamTlsFile(FileKeys):
    """`tls` of a route: whom it believes upstream, and what it shows there."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    verify: bool = True


class UpstreamKeys(FileKeys):
    """Part of a route."""

    mirror: MirrorFile = msgspec.field(default_factory=MirrorFile)
    tls: UpstreamTlsFile = msgspec.field(default_factory=UpstreamTlsFile)

    health_check: HealthCheckFile | None = None
    outlier_detection: OutlierFile | None = None

    pool: PoolFile = msgspec.field(default_factory=PoolFile)
    circuit_breaker: BreakerFile = msgspec.field(default_factory=BreakerFile)


def upstream_settings(file: UpstreamKeys, path: str) -> UpstreamSettings:
    """Raises ValueError starting with the key's path."""
    check, outliers = file.health_check, file.outlier_detection
    return UpstreamSettings(
        pool=_pool(file.pool, f"{path}.pool"),
        tls=_tls(file.tls, f"{path}.tls"),
        health_check=_health_check(check, f"{path}.health_check") if check is not None else None,
        outlier_detection=(
            _outliers(outliers, f"{path}.outlier_detection") if outliers is not None else None
        ),
    )


def mirror_settings(file: MirrorFile, path: str) -> MirrorSettings:
    """Raises ValueError starting with the key's path."""
    if file.to != "canary":
        raise ValueError(f"{path}.to: expected canary, got {file.to!r}")
    _check(f"{path}.outstanding", file.outstanding, 1, 100_000)
    return MirrorSettings(percent=file.percent.percent, outstanding=file.outstanding)


def breaker_settings(file: BreakerFile, path: str) -> BreakerSettings:
    """Raises ValueError starting with the key's path."""
    for name in ("requests", "pending", "retries"):
        value = getattr(file, name)
        if value is not None:
            _check(f"{path}.{name}", value, 1 if name == "requests" else 0, MOST_PENDING)
    return BreakerSettings(requests=file.requests, pending=file.pending, retries=file.retries)


def _pool(file: PoolFile, path: str) -> PoolSettings:
    _check(f"{path}.connections", file.connections, 1, MOST_CONNECTIONS)
    _check(f"{path}.pending", file.pending, 1, MOST_PENDING)
    _check(f"{path}.idle", file.idle, 0, MOST_CONNECTIONS)
    return PoolSettings(
        connections=file.connections,
        pending=file.pending,
        idle=file.idle,
        idle_timeout_s=file.idle_timeout.seconds,
    )


def _tls(file: UpstreamTlsFile, path: str) -> UpstreamTlsSettings:
    for name in ("ca", "cert", "key", "server_name"):
        if getattr(file, name) == "":
            raise ValueError(f"{path}.{name}: expected a text, got an empty one")
    if (file.cert is None) != (file.key is None):
        raise ValueError(f"{path}: expected cert and key together, or neither")
    if file.ca is not None and not file.verify:
        raise ValueError(f"{path}.ca: of no use with verify: false; leave one of them out")
    if file.server_name is not None and not _HOST.fullmatch(file.server_name):
        raise ValueError(
            f"{path}.server_name: expected the name of a host, got {file.server_name!r}"
        )
    return UpstreamTlsSettings(
        ca=file.ca,
        cert=file.cert,
        key=file.key,
        server_name=file.server_name,
        verify=file.verify,
    )


def _health_check(file: HealthCheckFile, path: str) -> HealthCheckSettings:
    if not _PATH.fullmatch(file.path):
        raise ValueError(f"{path}.path: expected a path such as /healthz, got {file.path!r}")
    if file.timeout.seconds > file.interval.seconds:
        raise ValueError(f"{path}.timeout: expected at most the interval")
    _check(f"{path}.healthy", file.healthy, 1, 100)
    _check(f"{path}.unhealthy", file.unhealthy, 1, 100)
    if not file.expect:
        raise ValueError(f"{path}.expect: expected at least one status, got none")
    return HealthCheckSettings(
        path=file.path,
        interval_s=file.interval.seconds,
        timeout_s=file.timeout.seconds,
        healthy=file.healthy,
        unhealthy=file.unhealthy,
        expect=tuple(_statuses(value, f"{path}.expect") for value in file.expect),
    )


def _statuses(value: int | str, path: str) -> tuple[int, int]:
    found = _STATUSES.fullmatch(str(value))
    if found is None or not 100 <= int(found[1]) <= int(found[2] or found[1]):
        raise ValueError(f"{path}: expected statuses such as 200 or 200-299, got {value!r}")
    return int(found[1]), int(found[2] or found[1])


def _outliers(file: OutlierFile, path: str) -> OutlierSettings:
    _check(f"{path}.consecutive_failures", file.consecutive_failures, 0, 10_000)
    _check(f"{path}.minimum_requests", file.minimum_requests, 1, 1_000_000)
    percentage = file.failure_percentage.percent if file.failure_percentage is not None else None
    if percentage == 0:
        raise ValueError(f"{path}.failure_percentage: expected above 0, got 0")
    if percentage is None and not file.consecutive_failures:
        raise ValueError(f"{path}: expected consecutive_failures above 0 or a failure_percentage")
    base_s, max_s = file.base_ejection_time.seconds, file.max_ejection_time.seconds
    if base_s > max_s:
        raise ValueError(f"{path}.base_ejection_time: expected at most max_ejection_time")
    return OutlierSettings(
        consecutive_failures=file.consecutive_failures,
        failure_percentage=percentage,
        minimum_requests=file.minimum_requests,
        interval_s=file.interval.seconds,
        base_ejection_s=base_s,
        max_ejection_s=max_s,
        max_ejection_percent=file.max_ejection_percent.percent,
    )


def _check(path: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{path}: expected {least} to {most:,}, got {value:,}")
