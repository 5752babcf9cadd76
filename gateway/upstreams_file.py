"""The keys of a route that are about its upstreams, and what they may say."""

from __future__ import annotations

import msgspec

from gateway.file_values import Duration, FileKeys
from gateway.upstream_settings import (
    IDLE_TIMEOUT_S,
    MAX_CONNECTIONS,
    MAX_IDLE,
    MAX_PENDING,
    BreakerSettings,
    PoolSettings,
    UpstreamSettings,
)

MOST_CONNECTIONS = 65_536
"""More ports than this one address has."""
MOST_PENDING = 1_000_000
"""A request that waits holds a few KB."""


class PoolFile(FileKeys):
    connections: int = MAX_CONNECTIONS
    pending: int = MAX_PENDING
    idle: int = MAX_IDLE
    idle_timeout: Duration = msgspec.field(default_factory=lambda: Duration(f"{IDLE_TIMEOUT_S}s"))


class BreakerFile(FileKeys):
    requests: int | None = None
    pending: int | None = None
    retries: int | None = None


class UpstreamKeys(FileKeys):
    """Part of a route."""

    pool: PoolFile = msgspec.field(default_factory=PoolFile)
    circuit_breaker: BreakerFile = msgspec.field(default_factory=BreakerFile)


def upstream_settings(file: UpstreamKeys, path: str) -> UpstreamSettings:
    """Raises ValueError starting with the key's path."""
    return UpstreamSettings(pool=_pool(file.pool, f"{path}.pool"))


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


def _check(path: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{path}: expected {least} to {most:,}, got {value:,}")
