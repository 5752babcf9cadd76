"""Do the servers that stable runs on give the same at the same time? Which one does not? Pure.

Requests are dealt to them by chance, so what one lastingly differs by is its own doing: a slow
disk, a noisy neighbour, a cold cache. A canary gets a server of its own, and may be as unlucky as
that one without being worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from agent.judge.eprocess import Floats, Ints
from agent.judge.margins import DEVIATIONS, MIN_REQUESTS, QUANTILES, quantile_logs

CHANCE: Final = 0.01
"""Of naming a server where all are alike, over all servers and figures together."""
LEAST_FACTOR: Final = 0.02
LEAST_RATE: Final = 0.001
"""What is nearer to the others is nobody's concern, however certain it is."""
MIN_BLOCKS: Final = 4
"""Of time; with fewer no difference is told from chance."""
COVERED: Final = 0.95
"""Of the newest block's requests, which those compared should have answered."""
_ERRORS: Final = "errors"

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCounts:
    """Of all servers in all blocks of time, the newest last."""

    requests: Ints
    """(blocks, servers)"""
    errors: Ints
    latency_bins: Ints
    """(blocks, servers, bins)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandsOut:
    """A server that lastingly differs from the mean of the others, in one figure."""

    server: int
    figure: str
    """`p50`, `p95`, `p99` or `errors`."""
    difference: float
    """0.05 is 5 % of a quantile, or 5 points of the rate of errors."""


def deviations_of_one(servers: int) -> float:
    """For the margin of a canary on a single server against the mean of `servers` alike."""
    return float(DEVIATIONS * np.sqrt(1 + 1 / servers))


def comparable(requests: Ints) -> tuple[Ints, int] | None:
    """Which servers can be compared, and how many blocks have to be taken together for it.

    Those that answer in the newest block, each often enough: servers come and go. From counts
    (blocks, servers); None where there are not two of them, or where they have not been there for
    `MIN_BLOCKS` blocks together.
    """
    blocks = len(requests)
    for together in range(1, blocks // MIN_BLOCKS + 1):
        merged = taken_together(requests, together)
        present = np.flatnonzero(merged[-1] >= MIN_REQUESTS)
        if len(present) < 2 or merged[-1, present].sum() < COVERED * merged[-1].sum():
            continue
        whole = (merged[:, present] >= MIN_REQUESTS).all(axis=1)
        if whole.sum() >= MIN_BLOCKS:
            return present, together
    return None


def taken_together(counts: NDArray[Number], together: int) -> NDArray[Number]:
    """Sums of so many blocks each, from the newest on; what is left of the oldest is left out."""
    blocks = len(counts) // together
    recent = counts[len(counts) - blocks * together :]
    merged: NDArray[Number] = recent.reshape(blocks, together, *counts.shape[1:]).sum(axis=1)
    return merged


def standing_out(counts: ServerCounts) -> tuple[StandsOut, ...]:
    """Of servers that are comparable, the one that differs most in each figure, if any does."""
    whole = (counts.requests >= MIN_REQUESTS).all(axis=1)
    whole &= (counts.latency_bins.sum(axis=2) > 0).all(axis=1)
    if whole.sum() < MIN_BLOCKS or counts.requests.shape[1] < 2:
        return ()
    bins = counts.latency_bins[whole]
    found = [_furthest(f"p{q * 100:.0f}", quantile_logs(bins, q)) for q in QUANTILES]
    found.append(_furthest(_ERRORS, counts.errors[whole] / counts.requests[whole]))
    return tuple(one for one in found if one is not None)


def _furthest(figure: str, values: Floats) -> StandsOut | None:
    """From (blocks, servers). Of two servers it is the worse one."""
    blocks, servers = values.shape
    others = (values.sum(axis=1, keepdims=True) - values) / (servers - 1)
    apart = values - others
    means = apart.mean(axis=0)
    furthest = int(np.argmax(np.abs(means) + (means > 0) * 1e-12))
    mean = float(means[furthest])
    error = float(apart[:, furthest].std(ddof=1) / np.sqrt(blocks))
    tries = servers * (len(QUANTILES) + 1)
    certain = error * float(stats.t.isf(CHANCE / 2 / tries, blocks - 1))
    difference = mean if figure == _ERRORS else float(np.expm1(mean))
    least = LEAST_RATE if figure == _ERRORS else LEAST_FACTOR
    if abs(mean) <= certain or abs(difference) < least:
        return None
    return StandsOut(server=furthest, figure=figure, difference=difference)
