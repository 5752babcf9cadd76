"""What a route says about its upstreams: plain values, the same for every slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAX_CONNECTIONS: Final = 1024
"""Per endpoint and worker, open or being opened: an eighth of Debian's usual 8,192 descriptors."""

MAX_PENDING: Final = 2048
"""Requests that may wait for a connection, two for each; the next one is answered 503 at once."""

MAX_IDLE: Final = 256
"""Kept open per endpoint when nothing uses them; above it a connection is closed after use."""

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
class UpstreamSettings:
    """Everything that makes two endpoints of the same address two pools."""

    pool: PoolSettings = field(default_factory=PoolSettings)
