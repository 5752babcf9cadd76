"""Counts of what passed, in plain integers: reading them is somebody else's business."""

from __future__ import annotations

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


class Histogram:
    """Counts by bucket; `counts[i]` is of values <= `bounds_us[i]`, the last of all above."""

    __slots__ = ("bounds_us", "counts", "sum_us")

    def __init__(self, bounds_us: tuple[int, ...]) -> None:
        self.bounds_us = bounds_us
        self.counts = [0] * (len(bounds_us) + 1)
        self.sum_us = 0

    def add(self, value_us: int) -> None:
        """Count one value. The fastest answers are the most frequent, and found at once."""
        self.sum_us += value_us
        index = 0
        for bound_us in self.bounds_us:
            if value_us <= bound_us:
                break
            index += 1
        self.counts[index] += 1

    @property
    def count(self) -> int:
        """Values so far."""
        return sum(self.counts)


class SeriesCounters:
    """Everything of one route, assigned arm, version that answered and outcome."""

    __slots__ = (
        "arm",
        "first_byte",
        "latency",
        "outcome",
        "own",
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
        self.latency = Histogram(LATENCY_BOUNDS_US)
        """From the first byte of the request to the last of the answer."""
        self.first_byte = Histogram(LATENCY_BOUNDS_US)
        self.own = Histogram(OWN_BOUNDS_US)
        """Time added by the gateway itself, without waiting for client or upstream."""
        self.request_bytes = 0
        self.response_bytes = 0

    def add(self, latency_us: int, first_byte_us: int, own_us: int) -> None:
        """Count one exchange."""
        self.latency.add(latency_us)
        self.first_byte.add(first_byte_us)
        self.own.add(own_us)

    @property
    def count(self) -> int:
        """Exchanges so far."""
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
        """Note that the spool did not take a record of an exchange that ended in `second`."""
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
        """Nothing is left to be told: the cell may go."""
        return not self.answered


def age_name(age_s: float) -> str:
    """The label of an age, as tallies have it."""
    for limit_s, name in AGES_S:
        if age_s <= limit_s:
            return name
    return "older"


def new_series(route: str, arm: str, version: str) -> list[SeriesCounters]:
    """One for each outcome, in the order of `OUTCOMES`."""
    return [SeriesCounters(route, arm, version, outcome) for outcome in OUTCOMES]
