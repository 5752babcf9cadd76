"""What a route says about its upstreams: plain values, the same for every slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_CONNECTIONS: Final = 1024
"""Per endpoint and worker, open or being opened: an eighth of Debian's usual 8,192 descriptors."""

MAX_PENDING: Final = 2048
"""Requests that may wait for a connection, two for each; the next one is answered 503 at once."""

MAX_IDLE: Final = MAX_CONNECTIONS
"""Kept open per endpoint when nothing uses them; above it a connection is closed after use. Fewer
than may be open would mean a new connection for every request above them; Envoy keeps all, too."""

IDLE_TIMEOUT_S: Final = 4.0
"""Under the 5 s after which uvicorn closes, the shortest in common use: we close first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Bounds of each endpoint's pool, in each worker."""

    connections: int = MAX_CONNECTIONS
    pending: int = MAX_PENDING
    idle: int = MAX_IDLE
    idle_timeout_s: float = IDLE_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """Bounds of one arm of the route, over all its endpoints, in each worker. None: no bound."""

    requests: int | None = None
    """Being answered or waiting for a connection."""
    pending: int | None = None
    """Waiting for a connection."""
    retries: int | None = None
    """Of the whole route: requests under way in a second or later attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings:
    """Copies to the canary of requests that were assigned to stable."""

    percent: float = 0.0
    """Of these requests; 0: none, and no cost."""
    outstanding: int = 100
    """Copies under way at a time, in each worker; past it none is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckSettings:
    """A request to each endpoint from time to time, by each worker."""

    path: str
    interval_s: float = 5.0
    """From the start of one check to the start of the next."""
    timeout_s: float = 1.0
    """Longest wait for the head of the answer, connecting included."""
    healthy: int = 2
    """Checks passed in a row until an endpoint that was out is back."""
    unhealthy: int = 3
    """Checks failed in a row until an endpoint is out."""
    expect: tuple[tuple[int, int], ...] = ((200, 299),)
    """Ranges of statuses that pass, both ends included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierSettings:
    """When an endpoint that fails requests gets none for a while. Names as in Envoy."""

    consecutive_failures: int = 5
    """Failures in a row that eject; 0: that alone never does."""
    failure_percentage: float | None = None
    """Of the requests of one interval, that ejects; None: that alone never does."""
    minimum_requests: int = 50
    """In an interval, below which a percentage says nothing."""
    interval_s: float = 10.0
    base_ejection_s: float = 30.0
    """Of the first ejection; doubled for each one that follows, until good intervals undo that."""
    max_ejection_s: float = 300.0
    max_ejection_percent: float = 50.0
    """Of an arm's endpoints that may be out at a time; one always may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamTlsSettings:
    """How `https://` endpoints are spoken to. Paths of PEM files."""

    ca: str | None = None
    """Who may have signed the server's certificate. None: the system's authorities."""
    cert: str | None = None
    """Ours, with what it was signed by; with `key`."""
    key: str | None = None
    server_name: str | None = None
    """Asked for and verified, in place of the endpoint's host."""
    verify: bool = True
    """False: whoever answers is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """Everything that makes two endpoints of the same address two pools."""

    pool: PoolSettings = field(default_factory=PoolSettings)
    tls: UpstreamTlsSettings = field(default_factory=UpstreamTlsSettings)
    health_check: HealthCheckSettings | None = None
    outlier_detection: OutlierSettings | None = None
