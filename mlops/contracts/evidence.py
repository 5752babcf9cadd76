"""What the feature store tells the agent: counts per second, and how far the log is complete.

Counts are whole numbers and additive, so that seconds merge into blocks exactly. Latencies are kept
as log-histograms in which 10 % is exactly five bins.
"""

from __future__ import annotations

from math import floor, log

import msgspec

LATENCY_BINS_PER_TEN_PERCENT = 5
LATENCY_BIN_RATIO: float = 1.1 ** (1 / LATENCY_BINS_PER_TEN_PERCENT)
"""Upper edge of a bin over its lower edge."""
LATENCY_FIRST_EDGE_US = 100
"""Everything faster lies in bin 0."""
LATENCY_LAST_BIN = 819
"""About ten minutes; everything slower lies here."""


def latency_bin(latency_us: float) -> int:
    """The bin of a duration in microseconds; the same formula as the view in ClickHouse."""
    if latency_us <= LATENCY_FIRST_EDGE_US:
        return 0
    index = floor(log(latency_us / LATENCY_FIRST_EDGE_US) / log(LATENCY_BIN_RATIO))
    return min(LATENCY_LAST_BIN, index)


class SecondCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that ended in one second, for one route, generation and assigned arm.

    `rows` counts every kind and is for completeness; everything else counts `kind = served` only.
    """

    second: int
    """Unix time of `ended_at`, whole seconds."""
    generation: int
    arm: str
    rows: int
    requests: int
    """Served and not cancelled."""
    errors: int
    """First attempt ended in one of `ERROR_OUTCOMES`."""
    client_errors: int = 0
    cancelled: int = 0
    latency_bins: dict[int, int] = {}
    """Of `requests`, by `latency_bin(latency_us)`."""
    first_byte_bins: dict[int, int] = {}
    cancelled_bins: dict[int, int] = {}
    """Elapsed time of cancelled requests: over the threshold they count as exceedances."""


class ScoreCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Late scores of one name that arrived in one second, for one generation and arm.

    Scores lie in 0..1. `total` and `total_squares` are their sum and the sum of their squares.
    """

    second: int
    generation: int
    arm: str
    name: str
    count: int
    total: float
    total_squares: float


class AnsweredCounts(msgspec.Struct, frozen=True, kw_only=True):
    """From the workers' tallies, summed over workers."""

    second: int
    generation: int
    arm: str
    answered: int
    dropped: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One read of the log for one route: everything from `since` up to the watermark."""

    route: str
    since: int
    """First second read."""
    closed_through: int
    """Every live worker's tally has passed this second; later seconds are not complete yet."""
    seconds: tuple[SecondCounts, ...] = ()
    scores: tuple[ScoreCounts, ...] = ()
    answered: tuple[AnsweredCounts, ...] = ()
