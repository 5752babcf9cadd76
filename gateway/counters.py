"""Counts of what passed, in plain integers: reading them is somebody else's business."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from gateway.record import OUTCOMES
from mlops.contracts.tally import TallyEntry

LATENCY_BOUNDS_US: Final = (
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000,
    750_000, 1_000_000, 2_500_000, 5_000_000, 7_500_000, 10_000_000, 30_000_000, 60_000_000,
)  # fmt: skip
"""OpenTelemetry's advice for `http.server.request.duration`, with finer ends for slow models."""

OWN_BOUNDS_US: Final = (10, 20, 30, 40, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 10_000)
"""Time the gateway itself adds: tens of microseconds; past a millisecond something is wrong."""

AGES_S: Final = ((1, "1s"), (10, "10s"), (60, "60s"))
"""An exchange in flight is counted under the first age that it has not passed, else `older`."""


MAX_UNSORTED: Final = 512
"""Exchanges of a series that wait to be counted; sorting so many takes about 0.2 ms."""


class Histogram:
    """Counts by bucket; `counts[i]` is of values <= `bounds_us[i]`, the last of all above."""

    __slots__ = ("bounds_us", "counts", "sum_us")

    def __init__(self, bounds_us: tuple[int, ...]) -> None:
        self.bounds_us = bounds_us
        self.counts = [0] * (len(bounds_us) + 1)
        self.sum_us = 0

    def add(self, values_us: Iterable[int]) -> None:
        """Count several values: sorted together, that is cheaper than placing each."""
        values = sorted(values_us)
        self.sum_us += sum(values)
        begin = 0
        for index, bound_us in enumerate(self.bounds_us):
            end = bisect_right(values, bound_us, begin)
            self.counts[index] += end - begin
            begin = end
        self.counts[-1] += len(values) - begin

    @property
    def count(self) -> int:
        return sum(self.counts)


class SeriesCounters:
    """Everything of one route, assigned arm, version that answered and outcome."""

    __slots__ = (
        "_first_byte",
        "_latency",
        "_own",
        "_unsorted",
        "arm",
        "outcome",
        "request_bytes",
        "response_bytes",
        "route",
        "version",
    )

    def __init__(self, route: str, arm: str, version: str, outcome: str) -> None:
        self.route = route
        self.arm = arm
        self.version = version
        self.outcome = outcome
        self._latency = Histogram(LATENCY_BOUNDS_US)
        self._first_byte = Histogram(LATENCY_BOUNDS_US)
        self._own = Histogram(OWN_BOUNDS_US)
        self._unsorted: list[tuple[int, int, int]] = []
        self.request_bytes = 0
        self.response_bytes = 0

    def add(self, latency_us: int, first_byte_us: int, own_us: int) -> None:
        """Count one exchange."""
        self._unsorted.append((latency_us, first_byte_us, own_us))
        if len(self._unsorted) >= MAX_UNSORTED:
            self._sort()

    def _sort(self) -> None:
        if self._unsorted:
            latency, first_byte, own = zip(*self._unsorted, strict=True)
            self._unsorted.clear()
            self._latency.add(latency)
            self._first_byte.add(first_byte)
            self._own.add(own)

    @property
    def latency(self) -> Histogram:
        """From the first byte of the request to the last of the answer."""
        self._sort()
        return self._latency

    @property
    def first_byte(self) -> Histogram:
        self._sort()
        return self._first_byte

    @property
    def own(self) -> Histogram:
        """Time added by the gateway itself, without waiting for client or upstream."""
        self._sort()
        return self._own

    @property
    def count(self) -> int:
        return self.latency.count


class TallyCell:
    """Answered and dropped of one route, arm and generation, by the second of `ended_at`."""

    __slots__ = ("answered", "arm", "dropped", "generation", "route")

    def __init__(self, route: str, arm: str, generation: int) -> None:
        self.route = route
        self.arm = arm
        self.generation = generation
        self.answered: dict[int, int] = {}
        self.dropped: dict[int, dict[str, int]] = {}

    def drop(self, second: int, reason: str) -> None:
        reasons = self.dropped.setdefault(second, {})
        reasons[reason] = reasons.get(reason, 0) + 1

    def take(self, second: int, ages_s: Iterable[float]) -> TallyEntry | None:
        """Counts up to and with `second`, taken out; None where there is nothing to say."""
        due = [each for each in self.answered if each <= second]
        answered = sum(self.answered.pop(each) for each in due)
        dropped: dict[str, int] = {}
        for each in [each for each in self.dropped if each <= second]:
            for reason, count in self.dropped.pop(each).items():
                dropped[reason] = dropped.get(reason, 0) + count
        in_flight: dict[str, int] = {}
        for age_s in ages_s:
            name = age_name(age_s)
            in_flight[name] = in_flight.get(name, 0) + 1
        if not answered and not in_flight:
            return None
        return TallyEntry(
            route=self.route,
            arm=self.arm,
            generation=self.generation,
            answered=answered,
            dropped=dropped,
            in_flight=in_flight,
        )

    @property
    def is_empty(self) -> bool:
        return not self.answered


def age_name(age_s: float) -> str:
    for limit_s, name in AGES_S:
        if age_s <= limit_s:
            return name
    return "older"


def new_series(route: str, arm: str, version: str) -> list[SeriesCounters]:
    """One for each outcome, in the order of `OUTCOMES`."""
    return [SeriesCounters(route, arm, version, outcome) for outcome in OUTCOMES]
