"""Passive ejection: an endpoint that fails requests gets none for a while, as in Envoy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.upstream_settings import OutlierSettings

if TYPE_CHECKING:
    from gateway.lanes import Upstreams

SECOND_NS: Final = 1_000_000_000

MAX_DOUBLINGS: Final = 20
"""A second becomes twelve days; `max_ejection_s` has cut it off long before."""


class History:
    """How the requests of one endpoint ended lately. Times are monotonic nanoseconds."""

    __slots__ = (
        "_ends_ns",
        "_failures",
        "_in_a_row",
        "_interval_ns",
        "_requests",
        "_settings",
        "_strikes",
    )

    def __init__(self, settings: OutlierSettings) -> None:
        self._settings = settings
        self._interval_ns = int(settings.interval_s * SECOND_NS)
        self._in_a_row = 0
        self._requests = 0
        self._failures = 0
        self._ends_ns = 0
        """When the present interval ends."""
        self._strikes = 0
        """Ejections that no good interval has made up for."""

    def succeeded(self, now_ns: int) -> None:
        """A request ended with a whole answer below 500."""
        if now_ns >= self._ends_ns:
            self._begin_interval(now_ns)
        self._in_a_row = 0
        self._requests += 1

    def failed(self, now_ns: int) -> str:
        """Why the endpoint should be ejected now; empty where it should not."""
        if now_ns >= self._ends_ns:
            self._begin_interval(now_ns)
        self._in_a_row += 1
        self._requests += 1
        self._failures += 1
        settings = self._settings
        if settings.consecutive_failures and self._in_a_row >= settings.consecutive_failures:
            return f"{self._in_a_row} failures in a row"
        if settings.failure_percentage is None or self._requests < settings.minimum_requests:
            return ""
        percentage = 100 * self._failures / self._requests
        if percentage < settings.failure_percentage:
            return ""
        return f"{percentage:.0f} % of {self._requests} requests failed"

    def eject(self, now_ns: int) -> int:
        """Until when it is out. Each ejection lasts twice as long as the one before."""
        settings = self._settings
        doublings = min(self._strikes, MAX_DOUBLINGS)
        out_s = min(settings.base_ejection_s * 2.0**doublings, settings.max_ejection_s)
        until_ns = now_ns + int(out_s * SECOND_NS)
        self._strikes += 1
        self._in_a_row = self._requests = self._failures = 0
        self._ends_ns = until_ns + self._interval_ns  # what is asked of it meanwhile counts too
        return until_ns

    def _begin_interval(self, now_ns: int) -> None:
        """A new interval; each that passed without an ejection takes one back."""
        if self._ends_ns:
            passed = 1 + (now_ns - self._ends_ns) // self._interval_ns
            self._strikes = max(0, self._strikes - passed)
        self._requests = self._failures = 0
        self._ends_ns = now_ns + self._interval_ns


def may_eject(peers: Sequence[Upstreams], max_percent: float, now_ns: int) -> bool:
    """Whether one more of an arm's endpoints may be out; the first always may."""
    out = sum(each.ejected_until_ns > now_ns for each in peers)
    return out < max(1, int(len(peers) * max_percent / 100))


def note_failure(endpoint: Upstreams, peers: Sequence[Upstreams], now_ns: int) -> bool:
    """A request to `endpoint` failed; whether that ejects it. `peers`: all of its arm."""
    settings, history = endpoint.settings.outlier_detection, endpoint.history
    if settings is None or history is None:
        return False
    why = history.failed(now_ns)
    if (
        why
        and endpoint.ejected_until_ns <= now_ns
        and may_eject(peers, settings.max_ejection_percent, now_ns)
    ):
        endpoint.eject(history.eject(now_ns), why)
        return True
    return False
