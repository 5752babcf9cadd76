"""Which margins stable's own noise allows: stable against stable, by server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agent.judge.eprocess import Floats, Ints
from mlops.contracts.evidence import BIN_RATIO

QUANTILES = (0.5, 0.95, 0.99)
DEVIATIONS = 2.0
"""A margin of two standard deviations between equal pods leaves few of them outside of it."""
ROUND_TO = 0.05
MIN_REQUESTS = 200
"""Of a pod, before its quantiles are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Of one check."""

    margin: float
    """Not less than this; 0.1 is 10 % for quantiles, absolute for rates."""
    spread: float
    """What equal servers differ by: one standard deviation."""
    servers: int
    """Compared."""


def latency_margin(by_server: Mapping[str, Ints]) -> Suggestion | None:
    """From histograms of durations, one for each of stable's servers (workers, pods).

    The widest quantile decides. None with fewer than two servers of enough requests.
    """
    bins = [one for one in by_server.values() if one.sum() >= MIN_REQUESTS]
    if len(bins) < 2:
        return None
    logs = np.array([[_quantile_log(one, quantile) for quantile in QUANTILES] for one in bins])
    spread = float(np.max(logs.std(axis=0, ddof=1)))
    return Suggestion(
        margin=_rounded(float(np.expm1(DEVIATIONS * spread))),
        spread=float(np.expm1(spread)),
        servers=len(bins),
    )


def rate_margin(errors: Ints, requests: Ints) -> Suggestion | None:
    """From errors and requests by server: how far rates lie apart beyond what chance explains.

    None with fewer than two servers of enough requests.
    """
    enough = requests >= MIN_REQUESTS
    bad, count = errors[enough].astype(float), requests[enough].astype(float)
    if len(count) < 2:
        return None
    rate = bad.sum() / count.sum()
    chance = float(np.mean(rate * (1 - rate) / count))
    spread = float(np.sqrt(max(0.0, float(np.var(bad / count, ddof=1)) - chance)))
    return Suggestion(
        margin=max(0.001, round(DEVIATIONS * spread, 4)), spread=spread, servers=len(count)
    )


def _quantile_log(bins: Ints, quantile: float) -> float:
    """The logarithm of a quantile, within its bin by interpolation."""
    below: Floats = np.concatenate([[0.0], np.cumsum(bins)])
    index = int(np.searchsorted(below, quantile * below[-1]))
    inside = (quantile * below[-1] - below[index - 1]) / max(1.0, below[index] - below[index - 1])
    return float((index - 1 + inside) * np.log(BIN_RATIO))


def _rounded(margin: float) -> float:
    """Up to the next five percent, and no less: nobody tunes a margin finer."""
    return round(max(1, int(np.ceil(margin / ROUND_TO - 1e-9))) * ROUND_TO, 2)
