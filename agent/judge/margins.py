"""Which margins stable's own noise allows: stable against stable, by groups of it. Pure.

Groups of keys get the same version at the same time, so whatever they differ by lastingly is noise
to a release that gives the canary to some of them. What they differ by in passing is chance, and
the judge allows for it; its part in the lasting difference is taken off. Servers that stable runs
on give the same at the same time, likewise; a canary on a server of its own differs by as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.judge.eprocess import Floats, Ints
from mlops.contracts.evidence import BIN_RATIO

QUANTILES = (0.5, 0.95, 0.99)
DEVIATIONS = 2.0
"""A margin of two standard deviations between equal groups leaves few of them outside of it."""
ROUND_TO = 0.05
MIN_REQUESTS = 200
"""Of a group in a block, before its quantiles are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Of one check."""

    margin: float
    """Not less than this; 0.1 is 10 % for quantiles, absolute for rates and scores."""
    spread: float
    """What equal groups differ by: one standard deviation."""
    groups: int
    """Compared."""


def latency_margin(bins: Ints, deviations: float = DEVIATIONS) -> Suggestion | None:
    """From histograms of durations (blocks of time, groups, bins). The widest quantile decides.

    None with fewer than two blocks or groups of enough requests.
    """
    enough = (bins.sum(axis=2) >= MIN_REQUESTS).all(axis=1)
    if enough.sum() < 2 or bins.shape[1] < 2:
        return None
    logs = [quantile_logs(bins[enough], quantile) for quantile in QUANTILES]
    spread = max(_lasting(one) for one in logs)
    return Suggestion(
        margin=_rounded(float(np.expm1(deviations * spread))),
        spread=float(np.expm1(spread)),
        groups=bins.shape[1],
    )


def rate_margin(bad: Ints, requests: Ints, deviations: float = DEVIATIONS) -> Suggestion | None:
    """From bad requests and requests (blocks of time, groups): how far rates lie apart lastingly.

    None with fewer than two blocks or groups of enough requests.
    """
    return _absolute(bad.astype(float), requests, 0.001, deviations)


def score_margin(totals: Floats, counts: Ints, deviations: float = DEVIATIONS) -> Suggestion | None:
    """From sums of scores and their number (blocks of time, groups), likewise."""
    return _absolute(totals, counts, 0.005, deviations)


def _absolute(totals: Floats, counts: Ints, finest: float, deviations: float) -> Suggestion | None:
    enough = (counts >= MIN_REQUESTS).all(axis=1)
    if enough.sum() < 2 or counts.shape[1] < 2:
        return None
    spread = _lasting(totals[enough] / counts[enough])
    margin = max(finest, float(np.ceil(deviations * spread / finest - 1e-9)) * finest)
    return Suggestion(margin=round(margin, 4), spread=spread, groups=counts.shape[1])


def _lasting(values: Floats) -> float:
    """Standard deviation between groups (blocks, groups), without what blocks explain as chance."""
    blocks, groups = values.shape
    apart = values - values.mean(axis=1, keepdims=True)
    of_groups = apart.mean(axis=0)
    chance = float(((apart - of_groups) ** 2).sum()) / ((blocks - 1) * (groups - 1))
    between = float((of_groups**2).sum()) / (groups - 1)
    return float(np.sqrt(max(0.0, between - chance / blocks)))


def quantile_logs(bins: Ints, quantile: float) -> Floats:
    """The logarithms of a quantile (blocks, groups), within their bins by interpolation."""
    below = np.cumsum(bins, axis=2)
    wanted = quantile * below[:, :, -1:]
    index = (below < wanted).sum(axis=2, keepdims=True)
    inside = np.take_along_axis(bins, index, axis=2)
    before = np.take_along_axis(below, index, axis=2) - inside
    return np.asarray((index + (wanted - before) / inside)[:, :, 0] * np.log(BIN_RATIO))


def _rounded(margin: float) -> float:
    """Up to the next five percent, and no less: nobody tunes a margin finer."""
    return round(max(1, int(np.ceil(margin / ROUND_TO - 1e-9))) * ROUND_TO, 2)
