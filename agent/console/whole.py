"""Traffic of a release, and of a route's last minutes, read as often as its picture changes.

However many browsers look: drawing is the agent's work beside the releases that it watches.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol

from agent.console.series import Traffic, stretch_s, traffic
from agent.moments import unix_s
from mlops.contracts.evidence import Evidence
from mlops.contracts.release import ReleaseStatus

MAX_RELEASE_S: Final = 30 * 24 * 3600
"""Of a longer release, the last of it: what is older is often archived."""
MAX_KEPT: Final = 32
"""Releases whose traffic is not read again before another point could be drawn."""
MAX_KEPT_RECENT: Final = 256
"""Routes, each with some number of minutes."""


class TrafficLog(Protocol):
    """The feature store, as far as traffic is read from it."""

    def read_evidence(self, route: str, *, since: int) -> Awaitable[Evidence]:
        """Second by second, up to the watermark."""

    def read_traffic(
        self, route: str, *, since: int, until: int, every_s: int
    ) -> Awaitable[Evidence]:
        """Merged into stretches of `every_s` seconds."""


class WholeTraffic:
    """What was read last of each release is kept until it would have a point more."""

    def __init__(self, log: TrafficLog) -> None:
        self._log = log
        self._kept: dict[str, tuple[int, Traffic]] = {}

    async def of(self, release: ReleaseStatus, now_s: float) -> Traffic:
        """Raises what the log raises."""
        until = int(unix_s(release.ended_at) if release.ended_at else now_s)
        since = max(int(unix_s(release.started_at)), until - MAX_RELEASE_S)
        every_s = stretch_s(since, until)
        kept = self._kept.pop(release.id, None)
        if kept is None or until - kept[0] >= every_s or (release.ended_at and until != kept[0]):
            read = self._log.read_traffic(release.route, since=since, until=until, every_s=every_s)
            kept = (until, traffic(await read, every_s))
        self._kept[release.id] = kept
        if len(self._kept) > MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))
        return kept[1]


class RecentTraffic:
    """Of a route's last minutes; read again once it would have a point more."""

    def __init__(self, log: TrafficLog) -> None:
        self._log = log
        self._kept: dict[tuple[str, int], tuple[int, Traffic]] = {}

    async def of(self, route: str, minutes: int, now_s: float) -> Traffic:
        """Raises what the log raises."""
        until = int(now_s)
        since = until - 60 * minutes
        kept = self._kept.get((route, minutes))
        if kept is None or not 0 <= until - kept[0] < stretch_s(since, until):
            kept = (until, traffic(await self._log.read_evidence(route, since=since)))
            self._kept.pop((route, minutes), None)
            self._kept[route, minutes] = kept
            if len(self._kept) > MAX_KEPT_RECENT:
                self._kept.pop(next(iter(self._kept)))
        return kept[1]
