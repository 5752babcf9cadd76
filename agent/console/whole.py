"""A release's traffic from its beginning to its end, read as often as its picture changes."""

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


class TrafficLog(Protocol):
    def read_traffic(
        self, route: str, *, since: int, until: int, every_s: int
    ) -> Awaitable[Evidence]: ...


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
